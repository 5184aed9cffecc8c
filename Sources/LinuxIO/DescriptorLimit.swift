// How many descriptors this process may have open.

import CLinux

public enum DescriptorLimit {
    /// As many as the host lets it. What is started from now on inherits that.
    public static func raise() {
        clinux_raise_descriptor_limit()
    }
}

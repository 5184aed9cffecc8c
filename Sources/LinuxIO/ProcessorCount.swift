// How many processors this process may run on, which can be fewer than there are.

import CLinux

public enum ProcessorCount {
    /// At least 1.
    public static var usable: Int { max(1, Int(clinux_usable_processors())) }
}

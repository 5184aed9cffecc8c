// What the allocator keeps for itself, in processes that move large buffers all the time.

import CLinux

public enum HeapPolicy {
    /// Buffers of up to 1 MiB come from the heap, and 8 MiB of it stay: mapped and unmapped
    /// each time, they cost a page fault for every 4 KiB of a stream.
    public static func apply() {
        clinux_keep_heap(1 << 20, 8 << 20)
    }
}

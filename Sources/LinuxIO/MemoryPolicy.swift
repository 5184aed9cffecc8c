// What long-lived processes that move large buffers keep in memory.

import CLinux

public enum MemoryPolicy {
    /// Buffers of up to 1 MiB come from the heap, and 8 MiB of it stay: mapped and unmapped
    /// each time, they cost a page fault for every 4 KiB of a stream.
    public static func apply() {
        clinux_keep_heap(1 << 20, 8 << 20)
    }

    /// Returns the heap's free memory to the system. Takes milliseconds where that is much: not
    /// to be called on an event loop.
    public static func returnFreeMemory() {
        clinux_return_heap()
    }

    /// Start-up runs through code, and reads tables, that nothing needs afterwards: two thirds
    /// of what an idle process has resident. To be called once it serves.
    /// - Parameter isAlone: there is no other thread.
    public static func letGoOfStartUp(isAlone: Bool) {
        clinux_let_go_of_code(isAlone)
    }
}

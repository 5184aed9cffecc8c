// Which process the kernel ends first for want of memory.

import CLinux
import Glibc

public enum OutOfMemoryScore {
    /// How much less gladly than before the supervisor is ended: its loss costs every process.
    private static let supervisorBonus: Int32 = 500
    /// What commands get where the supervisor may not lower its own score.
    private static let leastOfCommands: Int32 = 250
    /// From here on the kernel ends a process only after all others.
    private static let lowest: Int32 = -999

    /// Sees to it that the kernel picks a command before this process, where the host lets it.
    ///
    /// - Returns: The score that commands are to have.
    public static func protectSupervisor() -> Int32 {
        let own = clinux_oom_score()
        if clinux_set_oom_score(max(lowest, own - supervisorBonus)) == 0 { return own }
        return max(own, leastOfCommands)
    }
}

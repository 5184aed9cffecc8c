// Why a launch failed, in words and as a reason of the contract. Knows no process.

import CLinux
import Glibc
import LinuxIO

struct LaunchFailure {
    let step: clinux_launch_step
    let code: Int32
    /// The program that the file asks for, where that one is missing and not the file.
    let interpreter: String
    /// It has not come to an end in that time.
    let hungTime: Duration?

    init(_ step: clinux_launch_step, code: Int32, interpreter: String = "") {
        self.step = step
        self.code = code
        self.interpreter = interpreter
        hungTime = nil
    }

    /// The child did not execute the command within `time`.
    init(hungAfter time: Duration) {
        step = CLINUX_STEP_NONE
        code = ETIMEDOUT
        interpreter = ""
        hungTime = time
    }

    /// The refusal, where the request or the host is at fault, and not the command.
    func refusal(command: String, directory: String) -> Refusal? {
        if hungTime != nil { return Refusal(.hostUnresponsive, text(command: command)) }
        switch step {
        case CLINUX_STEP_DIRECTORY:
            return Refusal(.cwdInvalid, "\(directory): \(SystemError.text(of: code))")
        case CLINUX_STEP_GROUPS, CLINUX_STEP_USER:
            return code == EPERM ? Refusal(.runAsDenied, text(command: command)) : nil
        default:
            return code == E2BIG
                ? Refusal(.argumentsTooLong, "the host takes no arguments that long") : nil
        }
    }

    func text(command: String) -> String {
        if let hungTime {
            return "'\(command)' was not executed within \(hungTime.components.seconds) s: its"
                + " directory or its file system does not answer"
        }
        let reason = SystemError.text(of: code)
        switch step {
        case CLINUX_STEP_EXECUTE where code == ENOENT && !interpreter.isEmpty:
            return "cannot execute '\(command)': its interpreter '\(interpreter)': \(reason)"
        case CLINUX_STEP_EXECUTE: return "cannot execute '\(command)': \(reason)"
        case CLINUX_STEP_SESSION: return "cannot make a session: \(reason)"
        case CLINUX_STEP_TERMINAL: return "cannot take the terminal: \(reason)"
        case CLINUX_STEP_DESCRIPTORS: return "cannot connect its pipes: \(reason)"
        case CLINUX_STEP_LIMITS: return "cannot set its limits: \(reason)"
        case CLINUX_STEP_GROUPS: return "cannot set its groups: \(reason)"
        case CLINUX_STEP_USER: return "cannot become its user: \(reason)"
        case CLINUX_STEP_DIRECTORY: return "cannot enter its directory: \(reason)"
        case CLINUX_STEP_PARENT: return "the supervisor went away"
        default: return "cannot start a process: \(reason)"
        }
    }
}

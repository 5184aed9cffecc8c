// The table of the gateway's metrics, as docs/operations.md has it. Knows no value.

extension MetricFamily {
    /// Everything that `/metrics` prints.
    static let all: [MetricFamily] = [
        .init("procgate_build_info", .gauge, "1; the label is the gateway's version."),
        .init("procgate_calls_total", .counter, "Finished calls."),
        .init(
            "procgate_call_duration_seconds", .histogram,
            "Time from a call's begin to its end; streams count with their whole length."),
        .init("procgate_received_bytes_total", .counter, "Bytes of request bodies."),
        .init("procgate_sent_bytes_total", .counter, "Bytes of response bodies."),
        .init("procgate_streams", .gauge, "Calls that have begun and not ended."),
        .init("procgate_connections", .gauge, "Connections open now."),
        .init("procgate_connections_total", .counter, "Connections opened."),
        .init(
            "procgate_connections_refused_total", .counter,
            "Connections closed at once because there were too many."),
        .init(
            "procgate_handshakes_failed_total", .counter,
            "Connections on which TLS or HTTP/2 could not be agreed upon."),
        .init(
            "procgate_floods_total", .counter,
            "Connections cut off, by the frames of which the peer sent too many."),
        .init(
            "procgate_log_lines_dropped_total", .counter,
            "Log lines dropped because standard error was not read in time."),
        .init(
            "procgate_supervisor_up", .gauge,
            "1 if the supervisor answered this request for metrics within a second, else 0."),
        .init(
            "procgate_supervisor_restarts_total", .counter,
            "Supervisors started because one had died."),
        .init("procgate_processes", .gauge, "Processes that the supervisor knows, by status."),
        .init("procgate_queue_length", .gauge, "Processes that wait for their turn."),
        .init(
            "procgate_processes_ended_total", .counter,
            "Processes that ended since the supervisor's start, by termination reason."),
        .init("procgate_retained_bytes", .gauge, "Memory of all retained output."),
        .init("procgate_spawn_seconds", .summary, "Starts of processes, and their time together."),
        .init(
            "process_cpu_seconds_total", .counter,
            "User and system CPU time of the gateway, in seconds."),
        .init(
            "process_resident_memory_bytes", .gauge, "Resident memory of the gateway, in bytes."),
        .init("process_open_fds", .gauge, "Open file descriptors of the gateway."),
        .init("process_max_fds", .gauge, "Maximum number of open file descriptors."),
        .init(
            "process_start_time_seconds", .gauge,
            "Start time of the gateway since the epoch, in seconds."),
    ]
}

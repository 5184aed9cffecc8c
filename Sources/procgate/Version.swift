// What this binary calls itself.

/// Printed by `--version`, and told to clients and to the supervisor.
let procgateVersion = "0.1.0"

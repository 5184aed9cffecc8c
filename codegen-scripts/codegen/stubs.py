"""The client's stubs: a service as functions that make its calls over GRPCWire's channel."""

import names
from messages import Names, Writer

# Of each kind: the parameter before the options, how the call ends, and what makes it.
SHAPES = {
    "unary": ("_ request: {request}, ", "async throws(GRPCStatus) -> {response}",
              "try await channel.unary({method}, request, options: options)"),
    "serverStreaming": ("_ request: {request}, ", "-> ResponseStream<{response}>",
                        "channel.serverStreaming({method}, request, options: options)"),
    "clientStreaming": ("", "-> ClientCall<{request}, {response}>",
                        "channel.clientStreaming({method}, options: options)"),
    "bidirectional": ("", "-> ClientCall<{request}, {response}>",
                      "channel.bidirectional({method}, options: options)"),
}


def stubs_file(file, tree):
    """The text of the file, without its head, and the modules that it names types of."""
    writer, foreign = Writer(), {file.module.name}
    for service in file.services:
        scope = Names(tree, service.module, ())
        path = ".".join(service.path)
        writer.line(f"/// {service.full_name}, called over a channel.")
        writer.line(f"package struct {''.join(service.path)}Stub: Sendable {{")
        writer.line("package let channel: GRPCChannel")
        writer.line()
        writer.line("package init(_ channel: GRPCChannel) {")
        writer.line("self.channel = channel")
        writer.line("}")
        for name, _, request, response, kind, comment in service.methods:
            parameter, result, call = SHAPES[kind]
            types = {"request": scope.type(request), "response": scope.type(response)}
            writer.line()
            writer.comment(comment)
            writer.line(
                f"package func {names.escaped(name)}({parameter.format(**types)}"
                f"options: CallOptions = CallOptions()) {result.format(**types)} {{")
            writer.line(call.format(method=f"{path}.{names.escaped(name)}"))
            writer.line("}")
        writer.line("}")
        writer.line()
        foreign |= scope.foreign
    return writer.text(), foreign

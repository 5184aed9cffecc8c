// The bytes of the supervisor's socket, cut into events. Knows frames, and not what is in them.

import NIOCore
import ProcgateInternal
import Protobuf

/// The only handler of a link's channel.
final class LinkHandler: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer

    let link: SupervisorLink
    private var unread = ByteBuffer()

    init(_ link: SupervisorLink) {
        self.link = link
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        var bytes = unwrapInboundIn(data)
        link.heard()
        if unread.readableBytes == 0 { unread = bytes } else { unread.writeBuffer(&bytes) }
        do throws(SupervisorError) {
            while let event = try nextEvent() { try link.receive(event) }
        } catch {
            link.lose(error)
            context.close(promise: nil)
        }
        if unread.readableBytes == 0 { unread = ByteBuffer() } else { unread.discardReadBytes() }
    }

    func channelInactive(context: ChannelHandlerContext) {
        link.lose(.lost("the supervisor closed the connection"))
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        link.lose(.lost("the supervisor's socket: \(error)"))
        context.close(promise: nil)
    }

    private func nextEvent() throws(SupervisorError) -> Event? {
        guard
            let length = unread.getInteger(
                at: unread.readerIndex, endianness: .little, as: UInt32.self)
        else { return nil }
        guard length <= LinkFrame.maxLength else { throw .protocolViolation("a frame too long") }
        let total = LinkFrame.lengthSize + Int(length)
        guard unread.readableBytes >= total else { return nil }
        unread.moveReaderIndex(forwardBy: LinkFrame.lengthSize)
        let event = unread.withUnsafeReadableBytes { bytes in
            try? Event(decoding: UnsafeRawBufferPointer(rebasing: bytes.prefix(Int(length))))
        }
        unread.moveReaderIndex(forwardBy: Int(length))
        guard let event else { throw .protocolViolation("an event that cannot be read") }
        return event
    }
}

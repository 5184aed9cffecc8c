// Flow control: what is given back to the peer's windows, and how far they are open. When that
// is done the owner decides.

internal import CNGHTTP2

extension HTTP2Session {
    /// Whether the peer's windows have no room for a byte of the stream's body.
    func isBlocked(_ stream: HTTP2Stream) -> Bool {
        guard let raw, !stream.isClosed, stream.hasStarted else { return false }
        return nghttp2_session_get_remote_window_size(raw) <= 0
            || nghttp2_session_get_stream_remote_window_size(raw, stream.id) <= 0
    }

    func consume(_ stream: HTTP2Stream, _ count: Int) {
        guard let raw, count > 0 else { return }
        let given = min(count, stream.unconsumedBytes)
        stream.unconsumedBytes -= given
        // The connection's window gets them back by itself, or by `consumeConnection`.
        nghttp2_session_consume_stream(raw, stream.id, given)
        // A WINDOW_UPDATE is queued only once half of a window was taken.
        if nghttp2_session_want_write(raw) != 0 { outputWanted?() }
    }

    func growWindow(_ stream: HTTP2Stream, to bytes: Int) {
        guard let raw, !stream.isClosed, !stream.remoteEnded else { return }
        nghttp2_session_set_local_window_size(
            raw, UInt8(NGHTTP2_FLAG_NONE.rawValue), stream.id, Int32(clamping: bytes))
        outputWanted?()
    }

    /// Gives `count` received bytes back to the connection's window, where that is the owner's
    /// to do: see ``HTTP2Configuration/creditsConnectionOnReceipt``. What is to be sent because
    /// of that leaves with what is sent next: after each read, for example.
    public func consumeConnection(_ count: Int) {
        guard let raw, count > 0 else { return }
        nghttp2_session_consume_connection(raw, count)
    }

    /// Lets the peer send up to `bytes` on all streams together. A window does not shrink.
    public func growConnectionWindow(to bytes: Int) {
        guard let raw else { return }
        nghttp2_session_set_local_window_size(
            raw, UInt8(NGHTTP2_FLAG_NONE.rawValue), 0, Int32(clamping: bytes))
        outputWanted?()
    }
}

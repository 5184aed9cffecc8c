// The codec's callbacks: they unwrap, append an event, and decide nothing more than the codec
// asks of them on the spot. Everything else is done by the owner after the codec returned.

internal import CNGHTTP2
import NIOCore

extension HTTP2Session {
    /// The codec with this session as its user data. The codec never outlives the session.
    func makeCodec() -> OpaquePointer {
        var callbacks: OpaquePointer?
        var option: OpaquePointer?
        guard nghttp2_session_callbacks_new(&callbacks) == 0, nghttp2_option_new(&option) == 0
        else { fatalError("out of memory for an HTTP/2 session") }
        defer {
            nghttp2_session_callbacks_del(callbacks)
            nghttp2_option_del(option)
        }
        nghttp2_session_callbacks_set_on_begin_frame_callback(callbacks, beginFrameThunk)
        nghttp2_session_callbacks_set_on_begin_headers_callback(callbacks, beginHeadersThunk)
        nghttp2_session_callbacks_set_on_header_callback(callbacks, headerThunk)
        nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, frameReceivedThunk)
        nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, dataThunk)
        nghttp2_session_callbacks_set_on_frame_send_callback(callbacks, frameSentThunk)
        nghttp2_session_callbacks_set_on_frame_not_send_callback(callbacks, frameNotSentThunk)
        nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, streamClosedThunk)
        nghttp2_session_callbacks_set_send_data_callback(callbacks, sendDataThunk)
        nghttp2_session_callbacks_set_data_source_read_length_callback(
            callbacks, readLengthThunk)

        let limits = configuration.limits
        nghttp2_option_set_no_auto_window_update(option, 1)
        nghttp2_option_set_no_closed_streams(option, 1)
        if rules != nil { nghttp2_option_set_no_http_messaging(option, 1) }
        nghttp2_option_set_max_outbound_ack(option, limits.unreadAcknowledgements)
        nghttp2_option_set_max_settings(option, limits.settingsEntries)
        nghttp2_option_set_max_continuations(option, limits.continuations)
        // Its own count comes after the session's, which answers ENHANCE_YOUR_CALM.
        nghttp2_option_set_stream_reset_rate_limit(
            option, UInt64(limits.resets.burst) * 2, UInt64(limits.resets.perSecond) * 2)
        var codec: OpaquePointer?
        let own = Unmanaged.passUnretained(self).toOpaque()
        let result =
            role == .server
            ? nghttp2_session_server_new2(&codec, callbacks, own, option)
            : nghttp2_session_client_new2(&codec, callbacks, own, option)
        guard result == 0, let codec else { fatalError("out of memory for an HTTP/2 session") }
        return codec
    }

    /// Queues this side's SETTINGS and the connection's window.
    func announce() {
        guard let raw else { return }
        var entries = [
            nghttp2_settings_entry(
                settings_id: Int32(NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE.rawValue),
                value: UInt32(configuration.streamWindowBytes)),
            nghttp2_settings_entry(
                settings_id: Int32(NGHTTP2_SETTINGS_MAX_FRAME_SIZE.rawValue),
                value: UInt32(configuration.maxFrameBytes)),
            nghttp2_settings_entry(
                settings_id: Int32(NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE.rawValue),
                value: UInt32(configuration.maxHeaderListBytes)),
        ]
        if role == .server {
            entries.append(
                nghttp2_settings_entry(
                    settings_id: Int32(NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS.rawValue),
                    value: UInt32(configuration.maxConcurrentStreams + Self.refusedStreams)))
            entries.append(
                nghttp2_settings_entry(
                    settings_id: Int32(NGHTTP2_SETTINGS_NO_RFC7540_PRIORITIES.rawValue),
                    value: 1))
        } else {
            entries.append(
                nghttp2_settings_entry(
                    settings_id: Int32(NGHTTP2_SETTINGS_ENABLE_PUSH.rawValue), value: 0))
        }
        let flags = UInt8(NGHTTP2_FLAG_NONE.rawValue)
        nghttp2_submit_settings(raw, flags, entries, entries.count)
        nghttp2_session_set_local_window_size(
            raw, flags, 0, Int32(configuration.connectionWindowBytes))
    }

    func violate(_ code: HTTP2ErrorCode) {
        if violation == nil { violation = code }
    }

    func note(_ kind: HTTP2Flood) {
        guard let flood = guardian.note(kind, now: now), violation == nil else { return }
        violation = .enhanceYourCalm
        append(.flood(flood))
    }

    /// What the codec passes over without a word.
    func noteIgnoredFrames() {
        for _ in 0..<tracker.unknownFrames where violation == nil { note(.unknownFrames) }
        for _ in 0..<tracker.emptyData where violation == nil { note(.emptyData) }
        tracker.forgetCounts()
    }

    /// Keeps account of the numbers that the peer's streams have and that it skipped: a frame
    /// on a skipped one is an error of the connection (RFC 9113, 5.1.1).
    func noteHeaders(on id: Int32) {
        if id > highestPeerID {
            let next = highestPeerID == 0 ? 1 : highestPeerID + 2
            if id > next {
                if skippedIDs.count == Self.skippedRangesKept { skippedIDs.removeFirst() }
                skippedIDs.append(next...(id - 2))
            }
            highestPeerID = id
        } else if skippedIDs.contains(where: { $0.contains(id) }) {
            violation = .protocolError
        }
    }

    /// Whether a HEADERS or DATA frame is one that its request may have, where the codec does
    /// not say so.
    func isWellFormed(_ stream: HTTP2Stream, _ header: nghttp2_frame_hd) -> Bool {
        guard let rules else { return true }
        let endsStream = header.flags & flagEndStream != 0
        if header.type == typeHeaders {
            guard rules.isComplete(endsStream: endsStream) else { return false }
            if stream.headers == nil { stream.missingBytes = rules.contentLength }
        }
        guard let missing = stream.missingBytes else { return true }
        return endsStream ? missing == 0 : missing >= 0
    }

    private static let skippedRangesKept = 16
    /// Streams above the limit that may wait for their RST_STREAM to be sent. Beyond them the
    /// codec ends the connection.
    private static let refusedStreams = 1024

    func finishHeaders(_ stream: HTTP2Stream) {
        let block = collector.finish()
        if role == .client, stream.headers == nil, block.isInformational { return }
        if stream.headers == nil {
            stream.headers = block
            stream.headersOverLimit = collector.isOverLimit
            stream.volatileValue = collector.volatileValue
            append(.headers(stream))
        } else {
            stream.trailers = block
            append(.trailers(stream))
        }
    }
}

extension HeaderBlock {
    /// Whether this is an interim response (1xx).
    fileprivate var isInformational: Bool {
        withValue(of: ":status") { $0?.first == UInt8(ascii: "1") }
    }
}

@inline(__always)
private func session(_ user: UnsafeMutableRawPointer?) -> HTTP2Session {
    Unmanaged<HTTP2Session>.fromOpaque(user.unsafelyUnwrapped)._withUnsafeGuaranteedRef { $0 }
}

@inline(__always)
private func stream(_ codec: OpaquePointer?, _ id: Int32) -> HTTP2Stream? {
    guard let own = nghttp2_session_get_stream_user_data(codec, id) else { return nil }
    return Unmanaged<HTTP2Stream>.fromOpaque(own).takeUnretainedValue()
}

private let typeData = UInt8(NGHTTP2_DATA.rawValue)
private let typeHeaders = UInt8(NGHTTP2_HEADERS.rawValue)
private let typePriority = UInt8(NGHTTP2_PRIORITY.rawValue)
private let typeReset = UInt8(NGHTTP2_RST_STREAM.rawValue)
private let typeSettings = UInt8(NGHTTP2_SETTINGS.rawValue)
private let typePing = UInt8(NGHTTP2_PING.rawValue)
private let typeGoAway = UInt8(NGHTTP2_GOAWAY.rawValue)
private let typeWindowUpdate = UInt8(NGHTTP2_WINDOW_UPDATE.rawValue)
private let flagEndStream = UInt8(NGHTTP2_FLAG_END_STREAM.rawValue)
private let flagAck = UInt8(NGHTTP2_FLAG_ACK.rawValue)

private let beginFrameThunk: nghttp2_on_begin_frame_callback = { _, header, user in
    let header = header.unsafelyUnwrapped.pointee
    let session = session(user)
    guard session.role == .server else { return 0 }
    if header.type == typeHeaders {
        if header.stream_id & 1 == 1 { session.noteHeaders(on: header.stream_id) }
    } else if header.type == typePriority {
        session.note(.priorities)
        if header.stream_id == 0 { session.violate(.protocolError) }
    } else if header.type == typeWindowUpdate {
        // Here, as those of streams that are closed are told of nowhere else.
        session.note(.windowUpdates)
    }
    return 0
}

private let beginHeadersThunk: nghttp2_on_begin_headers_callback = { codec, frame, user in
    let session = session(user)
    session.collector.begin()
    session.rules?.begin(trailers: frame?.pointee.headers.cat != NGHTTP2_HCAT_REQUEST)
    guard let frame, frame.pointee.hd.type == typeHeaders,
        frame.pointee.headers.cat == NGHTTP2_HCAT_REQUEST
    else { return 0 }
    guard session.openStreams < session.configuration.maxConcurrentStreams else {
        // Without a stream of this side's whatever comes on it is passed over.
        nghttp2_submit_rst_stream(
            codec, UInt8(NGHTTP2_FLAG_NONE.rawValue), frame.pointee.hd.stream_id,
            HTTP2ErrorCode.refusedStream.rawValue)
        return 0
    }
    let stream = HTTP2Stream(id: frame.pointee.hd.stream_id, session: session)
    session.adopt(stream)
    nghttp2_session_set_stream_user_data(
        codec, stream.id, Unmanaged.passUnretained(stream).toOpaque())
    return 0
}

private let headerThunk: nghttp2_on_header_callback = {
    codec, frame, name, nameCount, value, valueCount, _, user in
    let session = session(user)
    let name = UnsafeRawBufferPointer(start: name, count: nameCount)
    let value = UnsafeRawBufferPointer(start: value, count: valueCount)
    if let verdict = session.rules?.check(name: name, value: value), verdict != .keep {
        guard verdict == .refuse, let frame else { return 0 }
        resetMalformed(codec, frame.pointee.hd.stream_id)
        return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE.rawValue
    }
    session.collector.append(name: name, value: value)
    return session.collector.isBomb ? NGHTTP2_ERR_CALLBACK_FAILURE.rawValue : 0
}

private func resetMalformed(_ codec: OpaquePointer?, _ id: Int32) {
    nghttp2_submit_rst_stream(
        codec, UInt8(NGHTTP2_FLAG_NONE.rawValue), id, HTTP2ErrorCode.protocolError.rawValue)
}

private let dataThunk: nghttp2_on_data_chunk_recv_callback = {
    codec, _, id, bytes, count, user in
    let session = session(user)
    let stream = stream(codec, id)
    if stream == nil || session.configuration.creditsConnectionOnReceipt {
        nghttp2_session_consume_connection(codec, count)
    }
    guard let stream, let bytes, let start = session.input.baseAddress else { return 0 }
    stream.unconsumedBytes += count
    if let missing = stream.missingBytes { stream.missingBytes = missing - count }
    session.append(
        .data(stream, offset: UnsafeRawPointer(bytes) - start, count: count))
    return 0
}

private let frameReceivedThunk: nghttp2_on_frame_recv_callback = { codec, frame, user in
    guard let frame else { return 0 }
    let session = session(user)
    let header = frame.pointee.hd
    switch header.type {
    case typeHeaders, typeData:
        guard let stream = stream(codec, header.stream_id) else { return 0 }
        guard session.isWellFormed(stream, header) else {
            resetMalformed(codec, stream.id)
            return 0
        }
        if header.type == typeHeaders {
            session.finishHeaders(stream)
        } else if header.length > 0, header.length <= frame.pointee.data.padlen,
            header.flags & flagEndStream == 0
        {
            // Those without padding are counted by the tracker.
            session.note(.emptyData)
        }
        if header.flags & flagEndStream != 0 {
            stream.remoteEnded = true
            session.append(.end(stream))
        }
    case typeSettings:
        if header.flags & flagAck == 0 {
            session.note(.settings)
            session.append(.settings)
        }
    case typePing:
        if header.flags & flagAck == 0 {
            session.note(.pings)
        } else if session.unansweredPings == 0 {
            session.note(.pings)
        } else {
            session.unansweredPings -= 1
            let payload = withUnsafeBytes(of: frame.pointee.ping.opaque_data) {
                $0.load(as: UInt64.self)
            }
            session.append(.pong(payload))
        }
    case typeGoAway:
        let goAway = frame.pointee.goaway
        let text = UnsafeRawBufferPointer(
            start: goAway.opaque_data, count: min(goAway.opaque_data_len, 256))
        session.append(
            .goAway(
                lastStreamID: goAway.last_stream_id, HTTP2ErrorCode(rawValue: goAway.error_code),
                message: String(decoding: text, as: UTF8.self)))
    case typeWindowUpdate:
        if session.role == .client { session.note(.windowUpdates) }
    case typeReset:
        // A server may reset what it answered early, and refuse what it cannot take.
        guard session.role == .server else { return 0 }
        session.note(.resets)
    default:
        break
    }
    return 0
}

private let frameSentThunk: nghttp2_on_frame_send_callback = { codec, frame, user in
    guard let frame else { return 0 }
    let session = session(user)
    let header = frame.pointee.hd
    switch header.type {
    case typeHeaders, typeData:
        session.guardian.noteSent(bytes: header.type == typeData ? header.length : 0)
        guard session.role == .server, header.flags & flagEndStream != 0,
            let stream = stream(codec, header.stream_id), !stream.remoteEnded
        else { return 0 }
        // The answer is complete and the caller still sends: it need not (RFC 9113, 8.1).
        nghttp2_submit_rst_stream(
            codec, UInt8(NGHTTP2_FLAG_NONE.rawValue), stream.id, HTTP2ErrorCode.noError.rawValue)
    case typeReset:
        let code = HTTP2ErrorCode(rawValue: frame.pointee.rst_stream.error_code)
        if session.role == .server, code != .noError, code != .cancel {
            session.note(.provokedResets)
            if session.violation != nil {
                session.violation = nil
                session.terminate(.enhanceYourCalm)
            }
        }
    default:
        break
    }
    return 0
}

/// An answer's fields that the codec cannot send (too large) would leave the stream open.
private let frameNotSentThunk: nghttp2_on_frame_not_send_callback = { codec, frame, error, _ in
    guard let frame, frame.pointee.hd.type == typeHeaders,
        frame.pointee.headers.cat != NGHTTP2_HCAT_REQUEST,
        error != NGHTTP2_ERR_STREAM_CLOSING.rawValue,
        let stream = stream(codec, frame.pointee.hd.stream_id)
    else { return 0 }
    nghttp2_submit_rst_stream(
        codec, UInt8(NGHTTP2_FLAG_NONE.rawValue), stream.id,
        HTTP2ErrorCode.internalError.rawValue)
    return 0
}

private let streamClosedThunk: nghttp2_on_stream_close_callback = { codec, id, code, user in
    guard let stream = stream(codec, id) else { return 0 }
    let session = session(user)
    session.append(.closed(stream, HTTP2ErrorCode(rawValue: code)))
    nghttp2_session_set_stream_user_data(codec, id, nil)
    session.release(stream)
    return 0
}

private let readLengthThunk: nghttp2_data_source_read_length_callback = {
    _, _, _, connectionWindow, streamWindow, maxFrame, user in
    let session = session(user)
    let room = max(session.outputLimit - session.outputBytes, 16 * 1024)
    let limit = min(
        Int(connectionWindow), Int(streamWindow), Int(maxFrame), room,
        session.configuration.maxSentDataBytes)
    return max(limit, 1)
}

/// Reads from the stream whose pointer is the source. See `BodySource`.
let readBodyThunk: nghttp2_data_source_read_callback = {
    codec, id, _, limit, flags, source, _ in
    guard let own = source?.pointee.ptr, let flags else { return 0 }
    let stream = Unmanaged<HTTP2Stream>.fromOpaque(own).takeUnretainedValue()
    let count: Int
    switch stream.nextBody(limit: limit) {
    case .later:
        stream.isDeferred = true
        return Int(NGHTTP2_ERR_DEFERRED.rawValue)
    case .bytes(let offered):
        flags.pointee |= UInt32(NGHTTP2_DATA_FLAG_NO_COPY.rawValue)
        precondition(offered >= 1 && offered <= limit, "a body source announced too much")
        return offered
    case .lastBytes(let offered):
        count = offered
    case .end:
        count = 0
    }
    flags.pointee |= UInt32(NGHTTP2_DATA_FLAG_EOF.rawValue)
    if count > 0 { flags.pointee |= UInt32(NGHTTP2_DATA_FLAG_NO_COPY.rawValue) }
    if let trailers = stream.endTrailers {
        flags.pointee |= UInt32(NGHTTP2_DATA_FLAG_NO_END_STREAM.rawValue)
        nghttp2_submit_trailer(codec, id, trailers.fields.baseAddress, trailers.fields.count)
    }
    return count
}

private let sendDataThunk: nghttp2_send_data_callback = {
    _, _, frameHeader, count, source, user in
    guard let own = source?.pointee.ptr, let frameHeader else { return 0 }
    let stream = Unmanaged<HTTP2Stream>.fromOpaque(own).takeUnretainedValue()
    let session = session(user)
    if session.canLend(count), let lent = stream.lendBody(count) {
        session.output.writeBytes(UnsafeRawBufferPointer(start: frameHeader, count: 9))
        session.lend(lent.bytes, of: lent.owner)
    } else {
        session.output.writeWithUnsafeMutableBytes(minimumWritableBytes: 9 + count) { room in
            room.baseAddress!.copyMemory(from: frameHeader, byteCount: 9)
            stream.copyBody(into: UnsafeMutableRawBufferPointer(rebasing: room[9..<(9 + count)]))
            return 9 + count
        }
    }
    guard session.outputBytes >= session.outputLimit else { return 0 }
    session.isPaused = true
    return NGHTTP2_ERR_PAUSE.rawValue
}

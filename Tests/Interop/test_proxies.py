"""Through each proxy of Examples/proxies: tests of the suite that show what a proxy could spoil,
run here once for each, and what concerns a proxy alone. `--proxy NAME` runs the whole suite through
one."""

import os
import threading

import grpc
import pytest

import proxies
from contract import (
    RUNNING,
    Code,
    MiB,
    Stub,
    begin,
    collect,
    error_info,
    follow,
    get,
    has_lines,
    info,
    pb,
    refused,
    run,
    start,
    stop,
    until,
    wait,
    write,
)
from gateway import eventually, gateway, standstill
from session import attach

# What runs again here.
from test_attach import (  # noqa: F401
    test_a_session_joins_a_process_and_replays_from_where_it_says,
    test_a_session_sends_signals,
    test_a_session_starts_a_process_and_ends_with_it,
    test_a_session_streams_a_large_input_back,
    test_a_session_that_joined_leaves_the_process_alone,
    test_a_session_that_started_kills_its_tree_when_its_caller_goes,
    test_a_session_without_start_or_join_is_refused,
    test_errors_of_a_start_are_those_of_exec,
    test_input_after_eof_is_refused,
    test_input_goes_in_and_output_comes_out,
    test_the_caller_may_send_no_more_and_still_gets_the_rest,
    test_two_sessions_share_a_process,
)
from test_compression import test_a_grpc_client_compresses_and_asks  # noqa: F401
from test_exec import (  # noqa: F401
    test_a_command_starts_prints_and_exits,
    test_a_hundred_at_once_do_not_mix,
    test_a_large_output_is_lossless,
    test_a_refused_exec_leaves_no_process,
    test_an_empty_command_is_refused,
    test_arguments_beyond_what_the_system_takes_are_refused,
    test_both_streams_come_with_their_name_in_the_order_produced,
    test_bytes_come_as_they_were_written,
    test_eight_megabytes_of_stdin_arrive_whole,
    test_output_is_streamed_while_the_command_runs,
    test_stdin_and_output_flow_at_the_same_time,
)
from test_exec_caller import (  # noqa: F401
    test_a_call_that_is_cancelled_before_its_start_leaves_nothing,
    test_a_caller_that_cancels_while_output_flows_ends_each_of_many,
    test_a_cancelled_exec_kills_at_once_though_term_is_ignored,
    test_a_cancelled_exec_kills_its_whole_tree,
    test_a_keyed_exec_that_is_cancelled_is_killed_at_once,
    test_a_repeat_with_the_same_key_joins_the_first_ones_process,
    test_a_slow_reader_does_not_hold_back_other_calls_of_its_connection,
    test_a_slow_reader_holds_the_process_back_and_loses_nothing,
    test_a_stalled_reader_that_is_cancelled_ends_its_process,
    test_an_exec_past_its_deadline_kills_its_whole_tree,
)
from test_health import (  # noqa: F401
    health,
    test_a_watch_of_an_unknown_service_says_so_and_stays,
    test_an_unknown_service_is_not_found,
    test_list_names_the_services,
)
from test_stream_output import (  # noqa: F401
    test_a_follower_that_goes_leaves_the_process_alone,
    test_a_follower_that_never_reads_delays_neither_the_process_nor_twenty_others,
    test_a_running_process_is_replayed_and_then_followed,
    test_the_output_is_replayed_after_the_end_and_exited_comes_last,
    test_twenty_followers_get_the_same,
)
from test_stream_stdin import (  # noqa: F401
    test_a_cancelled_input_leaves_the_process_and_its_stdin_alone,
    test_a_large_input_arrives_whole,
    test_a_process_that_stops_reading_ends_the_call_early,
    test_an_input_to_an_ended_process_is_refused,
    test_an_input_without_a_message_is_refused,
    test_messages_after_eof_are_refused,
    test_pieces_of_every_size_arrive_in_order,
    test_the_first_message_names_the_process,
    test_without_eof_stdin_stays_open,
    unending,
)
from test_wait import (  # noqa: F401
    test_a_wait_past_the_calls_deadline_leaves_the_process_running,
    test_a_waiter_that_goes_leaves_the_process_alone,
    test_many_wait_for_one_process,
    test_more_is_returned_where_the_caller_asks_for_it,
)
from test_watch import (  # noqa: F401
    label,
    test_a_watch_is_cut_off_by_its_deadline,
    test_each_change_of_status_comes,
)

pytestmark = pytest.mark.issue3


@pytest.fixture(scope="module", params=proxies.NAMES)
def proxy_name(request):
    return request.param


@pytest.fixture(scope="module")
def shared(proxy_name):
    """What the tests above ask for, in place of the gateway that all others share."""
    with gateway(proxy=proxy_name) as g:
        assert g.entrance != g.address
        yield g


def test_keep_alives_come_through_while_the_stream_is_idle(proxy_name):
    with gateway("--keep-alive", "1s", proxy=proxy_name) as g:
        events = begin(g.stub, "sleep 1000")
        session = attach(g.stub, "sleep 1000")
        ran = until(events, lambda ran: ran.events.count("keep_alive") == 3)
        assert ran.events == ["started", *3 * ["keep_alive"]]
        session.until(lambda ran: ran.events.count("keep_alive") == 3)
        events.cancel()
        session.cancel()


def test_metadata_of_bytes_comes_through(shared):
    for length in (0, 1, 2, 3, 1000, 4096):
        metadata = [("x-trace-bin", os.urandom(length)), ("x_under.score-1", "plain, with commas")]
        _, call = shared.stub.GetGateway.with_call(pb.GetGatewayRequest(), metadata=metadata)
        assert call.code() == Code.OK


def test_a_status_of_bytes_and_of_other_letters_comes_through(shared):
    """The message is percent-encoded, the details are bytes; the answer is trailers alone."""
    with refused(Code.INVALID_ARGUMENT, "CWD_INVALID") as caught:
        run(shared.stub, "true", cwd="/no/such/ünï☃%41 directory")
    assert caught[0].details()


def test_an_error_after_messages_comes_with_its_details(shared):
    session = attach(shared.stub, "echo one; sleep 1000")
    session.until(has_lines(1))
    session.send(eof=True)
    session.type("late")
    with pytest.raises(grpc.RpcError) as caught:
        session.end()
    assert error_info(caught.value).reason == "STDIN_CLOSED"


def test_an_unknown_method_is_unimplemented(shared):
    channel = shared.channel()
    for path in ("/procgate.v1.ProcessService/Nothing", "/no.such.Service/Nothing"):
        with refused(Code.UNIMPLEMENTED):
            channel.unary_unary(path)(b"", metadata=shared.metadata, timeout=10)


def test_a_caller_without_a_token_is_unauthenticated(shared):
    with refused(Code.UNAUTHENTICATED):
        info(Stub(shared.channel()))


def test_three_hundred_streams_at_once_on_one_connection(shared):
    stub = shared.connect()
    id = start(stub, "read x; echo $x; exit 7").id
    streams = [follow(stub, id) for _ in range(300)]
    assert run(stub, "echo meanwhile").stdout == b"meanwhile\n"
    write(stub, id, b"to all\n")
    for events in streams:
        ran = collect(events)
        assert (ran.stdout, ran.process.exit_code) == (b"to all\n", 7)


def test_two_hundred_commands_at_once_from_ten_connections(shared):
    failed = []

    def ten(stub, i):
        try:
            calls = [begin(stub, f"echo {i} {j}") for j in range(20)]
            assert [collect(events).stdout for events in calls] == [
                b"%d %d\n" % (i, j) for j in range(20)
            ]
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=ten, args=(shared.connect(), i)) for i in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed


def test_a_proxy_that_dies_takes_the_processes_of_its_callers_with_it(proxy_name):
    with gateway(proxy=proxy_name) as g:
        events = begin(g.stub, "echo x; sleep 1000")
        kept = start(g.stub, "sleep 1000")
        ran = until(events, has_lines(1))
        g.proxy.stop()
        with refused(Code.UNAVAILABLE):
            collect(events, ran)
        direct = g.connect(target=g.address)
        process = wait(direct, ran.id).process
        assert process.termination_reason
        assert get(direct, kept.id).status == RUNNING
        stop(direct, kept.id, grace_ms=0)


def test_a_gateway_that_is_gone_is_unavailable_and_comes_back(proxy_name):
    """nghttpx answers 502 with a page, and its end is UNKNOWN where grpcio reads it first."""
    codes = {Code.UNAVAILABLE, *[Code.UNKNOWN] * (proxy_name == "nghttpx")}
    with gateway(proxy=proxy_name) as g:
        assert run(g.stub, "echo one").stdout == b"one\n"
        g.stop()
        with pytest.raises(grpc.RpcError) as caught:
            info(g.stub)
        assert caught.value.code() in codes
        g.restart()

        def back():
            try:
                return run(g.stub, "echo two").stdout == b"two\n"
            except grpc.RpcError as error:
                assert error.code() in codes
                return False

        eventually(back, what="the gateway behind the proxy")


def test_a_gateway_drains_behind_a_proxy(proxy_name, tmp_path):
    """Calls that run come to their end; the proxy's idle connections keep nobody waiting."""
    with gateway(proxy=proxy_name) as g:
        call = begin(g.stub, f"echo x; until [ -e {tmp_path}/go ]; do sleep 0.02; done; seq 100000")
        ran = until(call, has_lines(1))
        g.terminate()
        (tmp_path / "go").touch()
        collect(call, ran)
        assert ran.process.exit_code == 0
        assert ran.stdout.endswith(b"\n100000\n")
        assert g.wait() == 0


def test_an_upload_is_not_gathered_by_the_proxy(shared):
    """What a process does not read stays with the caller, but for what the proxy may hold."""
    id = start(shared.stub, "sleep 1000").id
    sent, over = [], threading.Event()
    call = shared.connect().StreamStdin.future(unending(id, sent, over))
    eventually(lambda: sum(sent) > 64 << 10, what="the first of the upload")
    # The caller never ends, so that whatever holds it is less than what it would send: the kernel's
    # buffers hold 10 MiB for each of two connections.
    assert standstill(lambda: sum(sent)) < 128 * MiB
    over.set()
    call.cancel()
    stop(shared.stub, id, grace_ms=0)

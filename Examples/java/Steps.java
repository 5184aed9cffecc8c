// The seven steps of the client's page, against the gateway at PROCGATE_ADDRESS, by grpc-java.

import com.google.protobuf.ByteString;
import io.grpc.ManagedChannel;
import io.grpc.ManagedChannelBuilder;
import io.grpc.Metadata;
import io.grpc.stub.MetadataUtils;
import io.grpc.stub.StreamObserver;
import java.util.Iterator;
import java.util.Map;
import java.util.UUID;
import java.util.concurrent.CountDownLatch;
import procgate.v1.ProcessOuterClass.*;
import procgate.v1.ProcessServiceGrpc;

public final class Steps {
    private ManagedChannel channel;
    private ProcessServiceGrpc.ProcessServiceBlockingStub stub;
    private ProcessServiceGrpc.ProcessServiceStub streaming;

    private Steps() {
        connect();
    }

    private void connect() {
        String address = System.getenv().getOrDefault("PROCGATE_ADDRESS", "127.0.0.1:7070");
        Metadata metadata = new Metadata();
        String token = System.getenv("PROCGATE_TOKEN");
        if (token != null) {
            metadata.put(
                    Metadata.Key.of("authorization", Metadata.ASCII_STRING_MARSHALLER),
                    "Bearer " + token);
        }
        channel = ManagedChannelBuilder.forTarget(address.replaceFirst("^http://", ""))
                .usePlaintext()
                .intercept(MetadataUtils.newAttachHeadersInterceptor(metadata))
                .build();
        stub = ProcessServiceGrpc.newBlockingStub(channel);
        streaming = ProcessServiceGrpc.newStub(channel);
    }

    private static String key() {
        return UUID.randomUUID().toString();
    }

    private static void expect(boolean holds, Object what) {
        if (!holds) throw new IllegalStateException("not as expected: " + what);
    }

    private static ProcessSpec.Builder command(String text) {
        return ProcessSpec.newBuilder().setCommand(text).putLabels("example", "java");
    }

    private procgate.v1.ProcessOuterClass.Process start(ProcessSpec.Builder spec) {
        return stub.startProcess(
                        StartProcessRequest.newBuilder().setProcess(spec).setRequestKey(key()).build())
                .getProcess();
    }

    private ProcessResult await(String id) {
        return stub.wait(WaitRequest.newBuilder().setProcessId(id).build()).getResult();
    }

    /** Runs a command; its output goes to the two builders. */
    private procgate.v1.ProcessOuterClass.Process exec(
            ProcessSpec.Builder spec, StringBuilder stdout, StringBuilder stderr) {
        Iterator<ProcessEvent> events =
                stub.exec(ExecRequest.newBuilder().setProcess(spec).setRequestKey(key()).build());
        procgate.v1.ProcessOuterClass.Process ended = null;
        while (events.hasNext()) {
            ProcessEvent event = events.next();
            if (event.hasOutput()) {
                boolean isOut = event.getOutput().getStream() == OutputStream.OUTPUT_STREAM_STDOUT;
                (isOut ? stdout : stderr).append(event.getOutput().getData().toStringUtf8());
            }
            if (event.hasExited()) ended = event.getExited().getProcess();
        }
        return ended;
    }

    private void exec() {
        StringBuilder out = new StringBuilder();
        StringBuilder err = new StringBuilder();
        var ended = exec(command("echo out; echo err >&2; exit 3"), out, err);
        expect(ended.getExitCode() == 3, ended);
        expect(out.toString().equals("out\n") && err.toString().equals("err\n"), out);
    }

    private void options() {
        StringBuilder out = new StringBuilder();
        exec(
                command("pwd && echo $FOO").setCwd("/tmp").putEnv("FOO", "bar").setTimeoutMs(5000),
                out,
                out);
        expect(out.toString().equals("/tmp\nbar\n"), out);
        var late = exec(command("sleep 60").setTimeoutMs(200), out, out);
        expect(late.getStatus() == ProcessStatus.PROCESS_STATUS_TIMED_OUT, late);
    }

    private void startAndStdin() {
        var reader = start(command("read line; echo got:$line"));
        stub.writeStdin(WriteStdinRequest.newBuilder()
                .setProcessId(reader.getId())
                .setData(ByteString.copyFromUtf8("hello\n"))
                .setEof(true)
                .setOffset(0)
                .build());
        var result = await(reader.getId());
        expect(result.getStdoutData().toStringUtf8().equals("got:hello\n"), result);
    }

    private void getListSignal() {
        var sleeper = start(command("sleep 60"));
        stub.getProcess(GetProcessRequest.newBuilder().setProcessId(sleeper.getId()).build());
        var listing = stub.listProcesses(ListProcessesRequest.newBuilder()
                .addStatus(ProcessStatus.PROCESS_STATUS_RUNNING)
                .setLimit(20)
                .putAllLabels(Map.of("example", "java"))
                .build());
        expect(
                listing.getProcessesList().stream().anyMatch(p -> p.getId().equals(sleeper.getId())),
                listing);
        stub.signal(SignalRequest.newBuilder()
                .setProcessId(sleeper.getId())
                .setSignal("TERM")
                .build());
        expect(await(sleeper.getId()).getProcess().getSignalName().equals("SIGTERM"), sleeper);
    }

    private void stream() {
        var follower = start(command("echo one; sleep 0.1; echo two >&2"));
        var events = stub.streamOutput(
                StreamOutputRequest.newBuilder().setProcessId(follower.getId()).build());
        events.forEachRemaining(event -> {
            if (event.hasOutput()) System.out.println("  chunk " + event.getOutput().getSeq());
            if (event.hasExited()) {
                System.out.println("  exited with " + event.getExited().getProcess().getExitCode());
            }
        });
    }

    private void attach() throws InterruptedException {
        StringBuilder screen = new StringBuilder();
        CountDownLatch over = new CountDownLatch(1);
        var input = new StreamObserver<?>[1];
        var session = streaming.attach(new StreamObserver<ProcessEvent>() {
            @Override
            @SuppressWarnings("unchecked")
            public void onNext(ProcessEvent event) {
                if (!event.hasOutput()) return;
                screen.append(event.getOutput().getData().toStringUtf8());
                if (screen.toString().equals("typed\r\ntyped\r\n")) {
                    type((StreamObserver<AttachRequest>) input[0], "\u0004");
                }
            }

            @Override
            public void onError(Throwable error) {
                error.printStackTrace();
                over.countDown();
            }

            @Override
            public void onCompleted() {
                over.countDown();
            }
        });
        input[0] = session;
        var size = TerminalSize.newBuilder().setColumns(80).setRows(24);
        var start = StartProcessRequest.newBuilder().setProcess(command("cat").setTerminal(size));
        session.onNext(AttachRequest.newBuilder().setStart(start).build());
        type(session, "typed\n");
        over.await();
        expect(screen.toString().startsWith("typed\r\ntyped\r\n"), screen);
    }

    private static void type(StreamObserver<AttachRequest> session, String text) {
        session.onNext(
                AttachRequest.newBuilder().setStdinData(ByteString.copyFromUtf8(text)).build());
    }

    private void goOn() {
        ExecRequest.Builder request = ExecRequest.newBuilder()
                .setProcess(command("for i in 1 2 3 4 5 6; do echo $i; sleep 0.1; done"))
                .setRequestKey(key())
                .setOnDisconnect(DisconnectPolicy.DISCONNECT_POLICY_KEEP);
        Iterator<ProcessEvent> events = stub.exec(request.build());
        while (request.getAfterSeq() < 3) {
            ProcessEvent event = events.next();
            if (event.hasOutput()) request.setAfterSeq(event.getOutput().getSeq());
        }
        // The same key finds the command, and the number says where to go on. Nothing is run again.
        channel.shutdownNow();
        connect();
        StringBuilder rest = new StringBuilder();
        stub.exec(request.build()).forEachRemaining(event -> {
            if (event.hasOutput()) rest.append(event.getOutput().getData().toStringUtf8());
        });
        expect(rest.toString().equals("4\n5\n6\n"), rest);
    }

    public static void main(String[] arguments) throws InterruptedException {
        Steps steps = new Steps();
        System.out.println("1 exec");
        steps.exec();
        System.out.println("2 options");
        steps.options();
        System.out.println("3 start and stdin");
        steps.startAndStdin();
        System.out.println("4 get, list, signal");
        steps.getListSignal();
        System.out.println("5 stream");
        steps.stream();
        System.out.println("6 attach");
        steps.attach();
        System.out.println("7 go on where one was");
        steps.goOn();
        steps.channel.shutdownNow();
        System.out.println("done");
    }
}

// The seven steps of the client's page, against the gateway at PROCGATE_ADDRESS, by grpc-go.
package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"io"
	"log"
	"os"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	pb "procgate/v1"
)

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

func expect(holds bool, what ...interface{}) {
	if !holds {
		log.Fatal(append([]interface{}{"not as expected: "}, what...)...)
	}
}

func requestKey() string {
	bytes := make([]byte, 16)
	_, err := rand.Read(bytes)
	check(err)
	return hex.EncodeToString(bytes)
}

func connect() (*grpc.ClientConn, pb.ProcessServiceClient) {
	address := strings.TrimPrefix(os.Getenv("PROCGATE_ADDRESS"), "http://")
	if address == "" {
		address = "127.0.0.1:7070"
	}
	connection, err := grpc.Dial(address, grpc.WithInsecure())
	check(err)
	return connection, pb.NewProcessServiceClient(connection)
}

type output struct {
	stdout, stderr string
	process        *pb.Process
}

// exec collects what an Exec does.
func exec(ctx context.Context, client pb.ProcessServiceClient, spec *pb.ProcessSpec) output {
	events, err := client.Exec(ctx, &pb.ExecRequest{Process: spec, RequestKey: requestKey()})
	check(err)
	var collected output
	for {
		event, err := events.Recv()
		if err == io.EOF {
			return collected
		}
		check(err)
		if chunk := event.GetOutput(); chunk.GetStream() == pb.OutputStream_OUTPUT_STREAM_STDOUT {
			collected.stdout += string(chunk.Data)
		} else if chunk != nil {
			collected.stderr += string(chunk.Data)
		}
		if result := event.GetExited(); result != nil {
			collected.process = result.Process
		}
	}
}

func main() {
	ctx := context.Background()
	if token := os.Getenv("PROCGATE_TOKEN"); token != "" {
		ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+token)
	}
	connection, client := connect()
	start := func(spec *pb.ProcessSpec) *pb.Process {
		started, err := client.StartProcess(
			ctx, &pb.StartProcessRequest{Process: spec, RequestKey: requestKey()})
		check(err)
		return started.Process
	}
	labels := map[string]string{"example": "go"}

	fmt.Println("1 exec")
	ended := exec(ctx, client, &pb.ProcessSpec{Command: "echo out; echo err >&2; exit 3"})
	expect(ended.stdout == "out\n" && ended.stderr == "err\n", ended)
	expect(ended.process.GetExitCode() == 3, ended.process)

	fmt.Println("2 options")
	ended = exec(ctx, client, &pb.ProcessSpec{
		Command: "pwd && echo $FOO", Cwd: "/tmp", Env: map[string]string{"FOO": "bar"},
		TimeoutMs: 5000})
	expect(ended.stdout == "/tmp\nbar\n", ended.stdout)
	ended = exec(ctx, client, &pb.ProcessSpec{Command: "sleep 60", TimeoutMs: 200})
	expect(ended.process.Status == pb.ProcessStatus_PROCESS_STATUS_TIMED_OUT, ended.process)

	fmt.Println("3 start and stdin")
	reader := start(&pb.ProcessSpec{Command: "read line; echo got:$line", Labels: labels})
	_, err := client.WriteStdin(ctx, &pb.WriteStdinRequest{
		ProcessId: reader.Id, Data: []byte("hello\n"), Eof: true,
		Position: &pb.WriteStdinRequest_Offset{Offset: 0}})
	check(err)
	waited, err := client.Wait(ctx, &pb.WaitRequest{ProcessId: reader.Id})
	check(err)
	expect(string(waited.Result.StdoutData) == "got:hello\n", waited)

	fmt.Println("4 get, list, signal")
	sleeper := start(&pb.ProcessSpec{Command: "sleep 60", Labels: labels})
	_, err = client.GetProcess(ctx, &pb.GetProcessRequest{ProcessId: sleeper.Id})
	check(err)
	listing, err := client.ListProcesses(ctx, &pb.ListProcessesRequest{
		Status: []pb.ProcessStatus{pb.ProcessStatus_PROCESS_STATUS_RUNNING}, Limit: 20,
		Labels: labels})
	check(err)
	found := false
	for _, process := range listing.Processes {
		found = found || process.Id == sleeper.Id
	}
	expect(found, listing)
	_, err = client.Signal(ctx, &pb.SignalRequest{ProcessId: sleeper.Id, Signal: "TERM"})
	check(err)
	waited, err = client.Wait(ctx, &pb.WaitRequest{ProcessId: sleeper.Id})
	check(err)
	expect(waited.Result.Process.SignalName == "SIGTERM", waited)

	fmt.Println("5 stream")
	follower := start(&pb.ProcessSpec{Command: "echo one; sleep 0.1; echo two >&2"})
	events, err := client.StreamOutput(ctx, &pb.StreamOutputRequest{ProcessId: follower.Id})
	check(err)
	for {
		event, err := events.Recv()
		if err == io.EOF {
			break
		}
		check(err)
		if chunk := event.GetOutput(); chunk != nil {
			fmt.Printf("  chunk %d %q\n", chunk.Seq, chunk.Data)
		} else if result := event.GetExited(); result != nil {
			fmt.Println("  exited with", result.Process.GetExitCode())
		}
	}

	fmt.Println("6 attach")
	session, err := client.Attach(ctx)
	check(err)
	check(session.Send(&pb.AttachRequest{Message: &pb.AttachRequest_Start{
		Start: &pb.StartProcessRequest{Process: &pb.ProcessSpec{
			Command: "cat", Terminal: &pb.TerminalSize{Columns: 80, Rows: 24}}}}}))
	typed := func(text string) {
		check(session.Send(
			&pb.AttachRequest{Message: &pb.AttachRequest_StdinData{StdinData: []byte(text)}}))
	}
	typed("typed\n")
	screen := ""
	for {
		event, err := session.Recv()
		if err == io.EOF {
			break
		}
		check(err)
		if chunk := event.GetOutput(); chunk != nil {
			screen += string(chunk.Data)
			if screen == "typed\r\ntyped\r\n" {
				typed("\x04")
			}
		}
	}
	expect(strings.HasPrefix(screen, "typed\r\ntyped\r\n"), screen)

	fmt.Println("7 go on where one was")
	request := &pb.ExecRequest{
		Process:      &pb.ProcessSpec{Command: "for i in 1 2 3 4 5 6; do echo $i; sleep 0.1; done"},
		RequestKey:   requestKey(),
		OnDisconnect: pb.DisconnectPolicy_DISCONNECT_POLICY_KEEP}
	running, err := client.Exec(ctx, request)
	check(err)
	for request.AfterSeq < 3 {
		event, err := running.Recv()
		check(err)
		if chunk := event.GetOutput(); chunk != nil {
			request.AfterSeq = chunk.Seq
		}
	}
	// The same key finds the command, and the number says where to go on. Nothing is run again.
	check(connection.Close())
	connection, client = connect()
	running, err = client.Exec(ctx, request)
	check(err)
	rest := ""
	for {
		event, err := running.Recv()
		if err == io.EOF {
			break
		}
		check(err)
		rest += string(event.GetOutput().GetData())
	}
	expect(rest == "4\n5\n6\n", rest)
	check(connection.Close())
	fmt.Println("done")
}

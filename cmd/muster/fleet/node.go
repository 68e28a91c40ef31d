package fleet

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	sigterm = syscall.SIGTERM
	// startTimeout bounds the wait for a server's doors; replaying a log takes its time.
	startTimeout = time.Minute
)

// Node is one muster process. Its addresses stay the same when it restarts.
type Node struct {
	Name, Host, Dir         string
	Write, HTTP, GRPC, Peer string

	door string // where the member door listens: Peer, unless a proxy is there

	cfg  Config
	mu   sync.Mutex
	cmd  *exec.Cmd
	done chan struct{}
}

// Start runs the server and waits until its operator door answers.
func (n *Node) Start(ctx context.Context) error {
	if err := os.MkdirAll(n.Dir, 0o700); err != nil {
		return err
	}
	log, err := os.OpenFile(n.LogFile(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	args := append([]string{
		"server", "--data-dir", n.Dir, "--node-name", n.Name, "--advertise-address", n.Host,
		"--remote-write.address", n.Write, "--http.address", n.HTTP, "--grpc.address", n.GRPC, "--peer.address", n.door,
	}, n.cfg.Args...)
	cmd := exec.Command(n.cfg.Binary, args...) //nolint:noctx // it outlives the call; Stop ends it
	cmd.Stdout, cmd.Stderr = log, log
	// A terminal's Ctrl-C is for the demo, which stops its nodes in order; a
	// demo that dies takes them along.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	done := make(chan struct{})
	if err := StartProcess(cmd); err != nil {
		log.Close()
		return fmt.Errorf("start %s: %w", n.Name, err)
	}
	go func() {
		_ = cmd.Wait()
		log.Close()
		close(done)
	}()
	n.mu.Lock()
	n.cmd, n.done = cmd, done
	n.mu.Unlock()
	return n.awaitHealthy(ctx)
}

func (n *Node) awaitHealthy(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	for {
		if n.Get(ctx, "http://"+n.HTTP+"/-/healthy") == nil {
			return nil
		}
		select {
		case <-n.done:
			return fmt.Errorf("%s ended at its start: %s", n.Name, n.lastLog())
		case <-ctx.Done():
			return fmt.Errorf("%s does not answer: %w", n.Name, ctx.Err())
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// AwaitReady waits until the node calls itself ready.
func (n *Node) AwaitReady(ctx context.Context) error {
	for {
		err := n.Get(ctx, "http://"+n.HTTP+"/-/ready")
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s is not ready: %w", n.Name, err)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// Get is nil when the address answers 200.
func (n *Node) Get(ctx context.Context, url string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		b, _ := io.ReadAll(io.LimitReader(resp.Body, 4096))
		return fmt.Errorf("%s: %s", resp.Status, strings.TrimSpace(string(b)))
	}
	return nil
}

// CLI runs a command against the node and returns what it prints as data. An
// unhealthy cluster (exit code 3) is data, too.
func (n *Node) CLI(ctx context.Context, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, n.cfg.Binary, append(args, "--data-dir", n.Dir)...)
	var out, msg bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &msg
	err := cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() == 3 {
		err = nil
	}
	if err != nil {
		return out.Bytes(), fmt.Errorf("%w: %s", err, strings.TrimSpace(msg.String()))
	}
	return out.Bytes(), nil
}

// Kill is kill -9, and waits until the process is gone.
func (n *Node) Kill() {
	n.signal(syscall.SIGKILL)
	n.wait(time.Minute)
}

// Stop ends the node in order.
func (n *Node) Stop() {
	n.signal(sigterm)
	n.wait(30 * time.Second)
}

// Freeze and Thaw are SIGSTOP and SIGCONT.
func (n *Node) Freeze() { n.signal(syscall.SIGSTOP) }

// Thaw lets a frozen node go on.
func (n *Node) Thaw() { n.signal(syscall.SIGCONT) }

// Running says whether the process lives.
func (n *Node) Running() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.cmd == nil {
		return false
	}
	select {
	case <-n.done:
		return false
	default:
		return true
	}
}

// PID of the process; 0: none runs.
func (n *Node) PID() int {
	if !n.Running() {
		return 0
	}
	return n.cmd.Process.Pid
}

// LogFile is where the server's log goes.
func (n *Node) LogFile() string { return filepath.Join(n.cfg.Dir, n.Name+".log") }

func (n *Node) lastLog() string {
	b, err := os.ReadFile(n.LogFile())
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	return strings.Join(lines[max(0, len(lines)-3):], " | ")
}

func (n *Node) signal(s syscall.Signal) {
	if n.Running() {
		_ = n.cmd.Process.Signal(s)
	}
}

// wait gives the process time to end, then ends it.
func (n *Node) wait(d time.Duration) {
	n.mu.Lock()
	cmd, done := n.cmd, n.done
	n.mu.Unlock()
	if cmd == nil {
		return
	}
	select {
	case <-done:
	case <-time.After(d):
		_ = cmd.Process.Kill()
		<-done
	}
}

package demo

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/muster-metrics/muster/cmd/muster/fleet"
)

const scrapeInterval = 5 * time.Second

// writer is a process that scrapes the three nodes and writes to one of them.
type writer struct {
	tenant string
	target *fleet.Node
	kind   string // what a person reads: which program it is
	door   string // where it writes: the node, or a gateway that names the tenant
	front  *gateway
	cmd    *exec.Cmd
	log    *os.File
	done   chan struct{}
}

// newWriter prepares a real Prometheus where that binary is on the PATH, and
// otherwise this binary with Prometheus' own scrape and remote-write code.
func newWriter(d *demo, i int, tenant string) (*writer, error) {
	dir := filepath.Join(d.dir, "writer-"+tenant)
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, err
	}
	w := &writer{tenant: tenant, target: d.fleet.Nodes[i%len(d.fleet.Nodes)], done: make(chan struct{})}
	if err := w.openGateway(); err != nil {
		return nil, err
	}
	file := filepath.Join(dir, "prometheus.yml")
	if err := os.WriteFile(file, []byte(w.config(d.fleet.Nodes)), 0o600); err != nil {
		return nil, err
	}
	if prom, err := exec.LookPath("prometheus"); err == nil {
		w.kind = "prometheus, found at " + prom
		w.cmd = exec.Command(prom, "--config.file", file, "--storage.tsdb.path", filepath.Join(dir, "data"), //nolint:noctx // stop ends it
			"--web.listen-address", w.target.Host+":0", "--log.level", "warn")
	} else {
		w.kind = "Prometheus' own scraper and sender, since no prometheus is on the PATH"
		w.cmd = exec.Command(d.cfg.Binary, "demo", "scraper", "--config", file, "--dir", filepath.Join(dir, "data")) //nolint:noctx // stop ends it
	}
	var err error
	w.log, err = os.OpenFile(filepath.Join(d.dir, "writer-"+tenant+".log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	return w, err
}

// config is the writer's prometheus.yml.
func (w *writer) config(nodes []*fleet.Node) string {
	var b strings.Builder
	fmt.Fprintf(&b, "global:\n  scrape_interval: %s\n  scrape_timeout: 4s\nscrape_configs:\n- job_name: muster\n  static_configs:\n  - targets:\n", scrapeInterval)
	for _, n := range nodes {
		fmt.Fprintf(&b, "    - %s\n", n.HTTP)
	}
	fmt.Fprintf(&b, "remote_write:\n- url: %s/api/v1/receive\n  queue_config:\n    batch_send_deadline: 1s\n", w.door)
	return b.String()
}

// openGateway puts a gateway in front of the node for a tenant that has a name;
// the default tenant writes to the node itself.
func (w *writer) openGateway() (err error) {
	w.door = "http://" + w.target.Write
	if w.tenant == defaultTenant {
		return nil
	}
	if w.front, err = newGateway(w.target, w.tenant); err != nil {
		return err
	}
	w.door = w.front.url
	return nil
}

func (w *writer) start() error {
	w.cmd.Stdout, w.cmd.Stderr = w.log, w.log
	w.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	if err := fleet.StartProcess(w.cmd); err != nil {
		return fmt.Errorf("start the writer of %s: %w", w.tenant, err)
	}
	go func() {
		_ = w.cmd.Wait()
		_ = w.log.Close()
		close(w.done)
	}()
	return nil
}

func (w *writer) stop() {
	if w.front != nil {
		defer w.front.stop()
	}
	if w.cmd.Process == nil {
		return
	}
	_ = w.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-w.done:
	case <-time.After(10 * time.Second):
		_ = w.cmd.Process.Kill()
		<-w.done
	}
}

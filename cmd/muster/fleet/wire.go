package fleet

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Wires are the cables between the nodes' member doors: a proxy stands before
// each door, at the address that its node advertises, and knows who calls. A
// cut cable swallows nothing and closes nothing; what is sent waits, as it does
// when packets are lost, and goes on when the cable is whole again.
type Wires struct {
	mu      sync.Mutex
	healed  *sync.Cond
	cut     map[wire]bool
	nodes   map[string]*Node
	conns   map[*cable]bool
	proxies []net.Listener
	closed  bool
	held    int
	running sync.WaitGroup
}

// wire is one direction between two nodes.
type wire struct{ from, to string }

// cable is a connection between two nodes, cut in the middle.
type cable struct {
	caller, door     net.Conn
	dialled, dialler string // names of the nodes
}

func newWires() *Wires {
	w := &Wires{cut: map[wire]bool{}, nodes: map[string]*Node{}, conns: map[*cable]bool{}}
	w.healed = sync.NewCond(&w.mu)
	return w
}

// Cut holds back what `from` sends to `to` over member doors; the other
// direction stays whole.
func (w *Wires) Cut(from, to string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cut[wire{from, to}] = true
}

// Heal makes all cables whole. With broken, connections that were held up end
// instead of going on: a firewall has forgotten them.
func (w *Wires) Heal(broken bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if broken {
		for c := range w.conns {
			if w.cut[wire{c.dialler, c.dialled}] || w.cut[wire{c.dialled, c.dialler}] {
				c.close()
			}
		}
	}
	clear(w.cut)
	w.healed.Broadcast()
}

// listen stands before the node's member door. It returns the address that the
// node is to advertise.
func (w *Wires) listen(n *Node, address string) (string, error) {
	var lc net.ListenConfig
	l, err := lc.Listen(context.Background(), "tcp", address)
	if err != nil {
		return "", err
	}
	w.mu.Lock()
	w.nodes[n.Name] = n
	w.proxies = append(w.proxies, l)
	w.mu.Unlock()
	w.running.Go(func() { w.serve(l, n) })
	return l.Addr().String(), nil
}

func (w *Wires) serve(l net.Listener, n *Node) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		w.running.Go(func() { w.join(conn, n) })
	}
}

// join carries one connection.
func (w *Wires) join(caller net.Conn, n *Node) {
	dialler, err := w.callerOf(caller)
	if err != nil { // it has hung up already
		caller.Close()
		return
	}
	// A node that does not run refuses by itself.
	dialer := net.Dialer{Timeout: time.Second}
	door, err := dialer.DialContext(context.Background(), "tcp", n.door)
	if err != nil {
		caller.Close()
		return
	}
	c := &cable{caller: caller, door: door, dialler: dialler, dialled: n.Name}
	w.mu.Lock()
	if w.closed {
		w.mu.Unlock()
		c.close()
		return
	}
	w.conns[c] = true
	w.mu.Unlock()
	defer func() {
		w.mu.Lock()
		delete(w.conns, c)
		w.mu.Unlock()
		c.close()
	}()
	done := make(chan struct{})
	go func() {
		defer close(done)
		w.carry(door, caller, wire{dialler, n.Name})
		c.close()
	}()
	w.carry(caller, door, wire{n.Name, dialler})
	c.close()
	<-done
}

// carry copies what goes along a wire, and waits while that is cut.
func (w *Wires) carry(to io.Writer, from io.Reader, along wire) {
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		if !w.await(along) {
			return
		}
		if n > 0 {
			if _, err := to.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// await returns when the wire is whole; false: there are no wires any more.
func (w *Wires) await(along wire) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.cut[along] {
		w.held++
	}
	for w.cut[along] && !w.closed {
		w.healed.Wait()
	}
	return !w.closed
}

// Held is how many times something that was sent had to wait at a cut.
func (w *Wires) Held() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.held
}

func (c *cable) close() {
	c.caller.Close()
	c.door.Close()
}

// Close ends all connections and proxies.
func (w *Wires) Close() {
	w.mu.Lock()
	w.closed = true
	for _, l := range w.proxies {
		l.Close()
	}
	for c := range w.conns {
		c.close()
	}
	w.healed.Broadcast()
	w.mu.Unlock()
	w.running.Wait()
}

// callerOf finds the node whose process holds the other end of a connection:
// all nodes of a machine call from one address.
func (w *Wires) callerOf(conn net.Conn) (string, error) {
	inode, err := inodeOf(conn.RemoteAddr(), conn.LocalAddr())
	if err != nil {
		return "", err
	}
	w.mu.Lock()
	nodes := make([]*Node, 0, len(w.nodes))
	for _, n := range w.nodes {
		nodes = append(nodes, n)
	}
	w.mu.Unlock()
	want := "socket:[" + inode + "]"
	for _, n := range nodes {
		dir := fmt.Sprintf("/proc/%d/fd", n.PID())
		fds, err := os.ReadDir(dir)
		if err != nil {
			continue
		}
		for _, fd := range fds {
			if link, err := os.Readlink(dir + "/" + fd.Name()); err == nil && link == want {
				return n.Name, nil
			}
		}
	}
	return "", errors.New("no node holds the other end")
}

// inodeOf is the number of the socket that has these two ends, of this
// machine and IPv4, by /proc/net/tcp.
func inodeOf(local, remote net.Addr) (string, error) {
	table, err := os.ReadFile("/proc/net/tcp")
	if err != nil {
		return "", err
	}
	l, err1 := procAddress(local)
	r, err2 := procAddress(remote)
	if err := errors.Join(err1, err2); err != nil {
		return "", err
	}
	for line := range strings.SplitSeq(string(table), "\n") {
		// sl local rem st tx:rx tr:when retrnsmt uid timeout inode
		f := strings.Fields(line)
		if len(f) > 9 && f[1] == l && f[2] == r && f[9] != "0" {
			return f[9], nil
		}
	}
	return "", fmt.Errorf("no socket from %s to %s", local, remote)
}

// procAddress writes an address as /proc/net/tcp does: 0100007F:1F90.
func procAddress(a net.Addr) (string, error) {
	tcp, ok := a.(*net.TCPAddr)
	if !ok || tcp.IP.To4() == nil {
		return "", fmt.Errorf("%s is no IPv4 address", a)
	}
	ip := tcp.IP.To4()
	port := strings.ToUpper(strconv.FormatInt(int64(tcp.Port)|1<<16, 16)[1:])
	return fmt.Sprintf("%02X%02X%02X%02X:%s", ip[3], ip[2], ip[1], ip[0], port), nil
}

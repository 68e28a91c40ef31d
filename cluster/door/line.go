package door

import (
	"bufio"
	"net"
	"sync"
)

// line is a socket below TLS. TLS reads and writes records of 16 KiB; shares are
// many times that, and a system call for each record costs more than sealing it.
// So reads are buffered, and what one write of the caller makes of records goes
// out together.
type line struct {
	net.Conn
	in *bufio.Reader // used by one reader at a time, as crypto/tls does

	mu   sync.Mutex
	held bool
	out  []byte
	err  error // of a write that could not be told when it was made
}

const (
	lineIn  = 64 << 10
	lineOut = 256 << 10 // at most so much is held back; then it goes out
)

func newLine(c net.Conn) *line { return &line{Conn: c, in: bufio.NewReaderSize(c, lineIn)} }

func (l *line) Read(b []byte) (int, error) { return l.in.Read(b) }

// Write keeps b back while hold is in force.
func (l *line) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.held {
		return l.Conn.Write(b)
	}
	l.out = append(l.out, b...)
	if len(l.out) < lineOut {
		return len(b), nil
	}
	return len(b), l.flush()
}

func (l *line) hold() {
	l.mu.Lock()
	l.held = true
	l.mu.Unlock()
}

// release sends what was held back.
func (l *line) release() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.held = false
	return l.flush()
}

// flush remembers a failure: half a record may have gone out, after which
// nothing that follows makes sense to the other side.
func (l *line) flush() error {
	if l.err != nil || len(l.out) == 0 {
		return l.err
	}
	_, l.err = l.Conn.Write(l.out)
	l.out = l.out[:0]
	return l.err
}

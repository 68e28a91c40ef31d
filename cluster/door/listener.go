package door

import (
	"net"
	"sync"
)

// listener gives the connections of one protocol to whoever serves it.
type listener struct {
	door     *Door
	protocol string
	conns    chan *Conn
	closed   chan struct{}
	once     sync.Once
}

func newListener(d *Door, protocol string, backlog int) *listener {
	return &listener{door: d, protocol: protocol, conns: make(chan *Conn, backlog), closed: make(chan struct{})}
}

// Accept waits for a connection. After Close it returns ErrClosed.
func (l *listener) Accept() (net.Conn, error) {
	select {
	case <-l.closed:
		return nil, ErrClosed
	default:
	}
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, ErrClosed
	}
}

// Close ends this protocol, not the door, and the connections that nobody has
// accepted yet.
func (l *listener) Close() error {
	l.door.mu.Lock()
	if l.door.listeners[l.protocol] == l {
		delete(l.door.listeners, l.protocol)
	}
	l.door.mu.Unlock()
	l.shut()
	return nil
}

// Addr is the door's address.
func (l *listener) Addr() net.Addr {
	if a := l.door.Addr(); a != nil {
		return a
	}
	return &net.TCPAddr{}
}

func (l *listener) shut() {
	l.once.Do(func() { close(l.closed) })
	l.drain()
}

// drain closes what waits in the backlog of a closed listener.
func (l *listener) drain() {
	for {
		select {
		case c := <-l.conns:
			c.drop()
		default:
			return
		}
	}
}

package main

import (
	"bytes"
	"crypto/tls"
	"errors"
	"net"
	"sync"
	"time"
)

// firstByte is how long a connection may take until it says something.
const firstByte = 10 * time.Second

// tlsHandshake is the first byte of a TLS connection: record type 22.
const tlsHandshake = 0x16

// either lets TLS and plain connections in by one port: a connection that
// begins with a TLS handshake gets TLS.
type either struct {
	net.Listener
	config *tls.Config
	ready  chan net.Conn
	done   chan struct{}
	once   sync.Once
	err    error
}

func listenEither(l net.Listener, config *tls.Config) *either {
	e := &either{Listener: l, config: config, ready: make(chan net.Conn), done: make(chan struct{})}
	go e.accept()
	return e
}

func (e *either) accept() {
	for {
		c, err := e.Listener.Accept()
		if err != nil {
			if t, ok := errors.AsType[net.Error](err); ok && t.Timeout() {
				continue
			}
			e.once.Do(func() { e.err = err; close(e.done) })
			return
		}
		go e.look(c)
	}
}

// look waits for the first byte beside the others.
func (e *either) look(c net.Conn) {
	_ = c.SetReadDeadline(time.Now().Add(firstByte))
	var b [1]byte
	if _, err := c.Read(b[:]); err != nil {
		c.Close()
		return
	}
	_ = c.SetReadDeadline(time.Time{})
	var conn net.Conn = &peeked{Conn: c, first: bytes.NewReader(b[:])}
	if b[0] == tlsHandshake {
		conn = tls.Server(conn, e.config)
	}
	select {
	case e.ready <- conn:
	case <-e.done:
		c.Close()
	}
}

func (e *either) Accept() (net.Conn, error) {
	select {
	case c := <-e.ready:
		return c, nil
	case <-e.done:
		return nil, e.err
	}
}

func (e *either) Close() error {
	err := e.Listener.Close()
	e.once.Do(func() { e.err = net.ErrClosed; close(e.done) })
	return err
}

// peeked gives back the byte that was looked at.
type peeked struct {
	net.Conn
	first *bytes.Reader
}

func (p *peeked) Read(b []byte) (int, error) {
	if p.first.Len() > 0 {
		return p.first.Read(b)
	}
	return p.Conn.Read(b)
}

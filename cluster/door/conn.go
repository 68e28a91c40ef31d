package door

import (
	"crypto/tls"
	"sync"
	"time"
)

// Conn is a connection after its handshake: the peer is known and allowed.
type Conn struct {
	*tls.Conn
	line     *line
	writing  sync.Mutex
	door     *Door // nil for a connection that no door keeps
	protocol string
	peer     Identity
	keyHash  []byte
	dialled  bool
	life     *time.Timer
	once     sync.Once
}

// Peer is who is at the other end; on an accepted join/1 the zero Identity where
// it showed no certificate.
func (c *Conn) Peer() Identity { return c.peer }

// Protocol is what ALPN agreed on.
func (c *Conn) Protocol() string { return c.protocol }

// Write sends b as TLS records, together.
func (c *Conn) Write(b []byte) (int, error) {
	c.writing.Lock()
	defer c.writing.Unlock()
	c.line.hold()
	n, err := c.Conn.Write(b)
	if ferr := c.line.release(); err == nil {
		err = ferr
	}
	return n, err
}

// Close says good-bye and closes.
func (c *Conn) Close() error {
	c.release()
	return c.Conn.Close()
}

// drop closes without a word: a peer that does not read cannot hold it up.
func (c *Conn) drop() {
	c.release()
	_ = c.NetConn().Close()
}

func (c *Conn) release() {
	c.once.Do(func() {
		if c.door != nil {
			c.door.release(c)
		}
	})
}

package cluster

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/muster-metrics/muster/proto/clusterpb"
)

// peers is where the members were last reached, kept in raft/peers.json. It
// serves a node that has joined and has no state yet, and one that starts after
// addresses have changed. Nothing in it is secret, and nothing depends on it
// that the state knows better.
type peers struct {
	path string

	mu   sync.Mutex
	list []peer // by name
}

type peer struct {
	Name    string `json:"name"`
	Address string `json:"address"`
	// Recorded is the member's committed address when Address was heard: once
	// another is committed, the state knows better.
	Recorded string `json:"recorded"`
	// Stamp is that of the announcement; 0: nothing was announced.
	Stamp int64 `json:"stamp,omitempty"`
}

// openPeers reads the file; a missing or broken one is an empty list, since the
// state or the next join brings another.
func openPeers(path string) *peers {
	p := &peers{path: path}
	text, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(text, &p.list)
	}
	if err != nil {
		p.list = nil
	}
	return p
}

// Of is what is known of a node.
func (p *peers) Of(name string) (peer, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	i, ok := p.find(name)
	if !ok {
		return peer{}, false
	}
	return p.list[i], true
}

// Names are all nodes of the list.
func (p *peers) Names() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	names := make([]string, 0, len(p.list))
	for _, q := range p.list {
		names = append(names, q.Name)
	}
	return names
}

func (p *peers) find(name string) (int, bool) {
	return slices.BinarySearchFunc(p.list, name, func(q peer, name string) int { return strings.Compare(q.Name, name) })
}

// Follow makes the list that of these members. An address that a node announced
// stays until another one is committed for it.
func (p *peers) Follow(members []*clusterpb.Member) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	list := make([]peer, 0, len(members))
	for _, m := range members {
		q := peer{Name: m.GetName(), Address: m.GetAddress(), Recorded: m.GetAddress()}
		if i, ok := p.find(q.Name); ok {
			q.Stamp = p.list[i].Stamp
			if p.list[i].Recorded == q.Recorded {
				q = p.list[i]
			}
		}
		list = append(list, q)
	}
	slices.SortFunc(list, func(a, b peer) int { return strings.Compare(a.Name, b.Name) })
	return p.keep(list)
}

// Learn takes over where nodes say that they are, at first or second hand: of two
// addresses of a node the one announced later. What others say of this node
// itself, and of strangers, is left out.
func (p *peers) Learn(self string, announced []*clusterpb.Announcement) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	var list []peer
	for _, a := range announced {
		i, ok := p.find(a.GetNode())
		if !ok || a.GetNode() == self || a.GetStamp() < p.list[i].Stamp || checkAddress("address", a.GetAddress(), true) != nil {
			continue
		}
		if a.GetAddress() == p.list[i].Address && a.GetStamp() == p.list[i].Stamp {
			continue
		}
		if list == nil {
			list = slices.Clone(p.list)
		}
		list[i].Address, list[i].Stamp = a.GetAddress(), a.GetStamp()
	}
	if list == nil {
		return nil
	}
	return p.keep(list)
}

// Announce is the stamp of this node's address; a new address gets a new one.
func (p *peers) Announce(self, address string, now time.Time) (int64, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	i, ok := p.find(self)
	if !ok {
		return 0, nil
	}
	if q := p.list[i]; q.Stamp != 0 && q.Address == address {
		return q.Stamp, nil
	}
	list := slices.Clone(p.list)
	list[i].Address, list[i].Stamp = address, max(list[i].Stamp+1, now.UnixMilli())
	return list[i].Stamp, p.keep(list)
}

// Announcements are what is known to pass on.
func (p *peers) Announcements() []*clusterpb.Announcement {
	p.mu.Lock()
	defer p.mu.Unlock()
	var out []*clusterpb.Announcement
	for _, q := range p.list {
		if q.Stamp != 0 {
			out = append(out, &clusterpb.Announcement{Node: q.Name, Address: q.Address, Stamp: q.Stamp})
		}
	}
	return out
}

// keep writes a list that differs.
func (p *peers) keep(list []peer) error {
	if slices.Equal(list, p.list) {
		return nil
	}
	p.list = list
	text, err := json.MarshalIndent(list, "", "  ")
	if err != nil {
		return fmt.Errorf("encode the list of peers: %w", err)
	}
	if err := replaceFile(p.path, append(text, '\n')); err != nil {
		return fmt.Errorf("keep the list of peers: %w", err)
	}
	return nil
}

// Forget removes the list.
func (p *peers) Forget() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.list = nil
	if err := os.Remove(p.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// replaceFile writes a file of mode 0600 whole or not at all.
func replaceFile(path string, text []byte) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(f.Name())
		}
	}()
	_, err = f.Write(text)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err = os.Rename(f.Name(), path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

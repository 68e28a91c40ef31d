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
	// Version of the member that the address goes with: the state knows better
	// once the member has changed again.
	Version uint64 `json:"version"`
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

// Follow makes the list that of these members. An address that a node itself
// named since the member last changed stays.
func (p *peers) Follow(members []*clusterpb.Member) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	list := make([]peer, 0, len(members))
	for _, m := range members {
		q := peer{m.GetName(), m.GetAddress(), m.GetVersion()}
		if i, ok := p.find(q.Name); ok && p.list[i].Version >= q.Version {
			q = p.list[i]
		}
		list = append(list, q)
	}
	slices.SortFunc(list, func(a, b peer) int { return strings.Compare(a.Name, b.Name) })
	return p.keep(list)
}

// Heard notes where a node says that it is, at a version of its member.
func (p *peers) Heard(name, address string, version uint64) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	i, ok := p.find(name)
	if !ok || address == "" || p.list[i].Address == address {
		return nil
	}
	list := slices.Clone(p.list)
	list[i] = peer{name, address, version}
	return p.keep(list)
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

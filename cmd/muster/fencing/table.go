package fencing

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"time"

	"github.com/muster-metrics/muster/cmd/muster/fleet"
)

// slot is who holds a slot, by name.
type slot struct {
	Replicas   []string
	Quorum     int
	Changed    uint64
	OpenEpochs int `json:"open_epochs"`
}

// table is a ring's slots as a node tells them.
type table struct {
	Slots      []slot
	Moving     int
	OpenEpochs int      `json:"open_epochs"`
	WaitingFor []string `json:"waiting_for"`
}

// member is a node as the cluster's status tells it.
type member struct {
	Name, State, Role string
	Applied           uint64
}

// admin speaks the admin API to a node over its socket.
type admin struct {
	node *fleet.Node
	http http.Client
}

func newAdmin(n *fleet.Node) *admin {
	socket := filepath.Join(n.Dir, "muster.sock")
	return &admin{node: n, http: http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", socket)
		},
	}}}
}

func (a *admin) get(ctx context.Context, path string, to any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://muster/api/v1"+path, http.NoBody)
	if err != nil {
		return err
	}
	resp, err := a.http.Do(req)
	if err != nil {
		return fmt.Errorf("ask %s: %w", a.node.Name, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("ask %s for %s: %s", a.node.Name, path, resp.Status)
	}
	if err := json.NewDecoder(resp.Body).Decode(to); err != nil {
		return fmt.Errorf("read the answer of %s: %w", a.node.Name, err)
	}
	return nil
}

// tableOf is the ring `default` as the node has it: the newest it knows, which
// others may be beyond.
func tableOf(ctx context.Context, n *fleet.Node) (table, error) {
	var t table
	err := newAdmin(n).get(ctx, "/rings/default/slots?consistency=local", &t)
	return t, err
}

// membersOf are the nodes as this one knows them.
func membersOf(ctx context.Context, n *fleet.Node) ([]member, error) {
	var st struct{ Nodes []member }
	err := newAdmin(n).get(ctx, "/cluster/status?consistency=local", &st)
	return st.Nodes, err
}

// tenure is a time in which a slot was seen to be held by the same stores.
type tenure struct {
	changed  uint64
	replicas []string
	// settled is when no epoch before it was open any more; zero: never seen so.
	settled time.Time
	// last is when it was seen last.
	last time.Time
}

// chronicle is how the watched slots were seen to change.
type chronicle map[int][]tenure

// note adds one look, begun and ended at these times.
func (c chronicle) note(watched []int, t table, began, ended time.Time) {
	for _, n := range watched {
		s := t.Slots[n]
		all := c[n]
		if len(all) > 0 && all[len(all)-1].changed > s.Changed {
			continue // a node that was asked lagged
		}
		if len(all) == 0 || all[len(all)-1].changed < s.Changed {
			all = append(all, tenure{changed: s.Changed, replicas: s.Replicas})
		}
		now := &all[len(all)-1]
		if s.OpenEpochs == 0 && now.settled.IsZero() {
			now.settled = ended
		}
		now.last = began
		c[n] = all
	}
}

// during is the tenure of the slot that was settled before begin and not yet
// over at end; nil: there is none of which that is sure.
func (c chronicle) during(slot int, begin, end time.Time) *tenure {
	for i := range c[slot] {
		t := &c[slot][i]
		if !t.settled.IsZero() && t.settled.Before(begin) && end.Before(t.last) {
			return t
		}
	}
	return nil
}

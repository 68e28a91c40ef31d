package cluster

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/muster-metrics/muster/cluster/pki"
	"github.com/muster-metrics/muster/proto/clusterpb"
)

// rotate asks for a new CA, or for the end of the old one, through a node.
func (n *bedNode) rotate(finish bool) {
	n.bed.t.Helper()
	cmd := &clusterpb.Command{Actor: "test", Change: &clusterpb.Command_RotateCa{RotateCa: &clusterpb.RotateCA{}}}
	if finish {
		cmd.Change = &clusterpb.Command_RetireCa{RetireCa: &clusterpb.RetireCA{}}
	}
	answer, err := n.node.Propose(n.ctx(), cmd)
	if err != nil || answer.GetRefusal() != nil {
		n.bed.t.Fatalf("rotate (finish %t) through %s: %v %v", finish, n.name, answer.GetRefusal(), err)
	}
}

func (b *bed) ca() pki.Fingerprint {
	b.t.Helper()
	bundle, err := pki.ParseBundle(b.running()[0].node.State().Cluster().GetCaCertificates())
	if err != nil {
		b.t.Fatal(err)
	}
	return bundle.Fingerprint()
}

// renewedBy waits until each running node has a certificate of that CA, and the
// voters have its key.
func (b *bed) renewedBy(ca pki.Fingerprint) {
	b.t.Helper()
	b.eventually("every node has a certificate of the new CA", func() string {
		for _, n := range b.running() {
			if got := n.node.credentials().CA(); got != ca {
				return fmt.Sprintf("%s has one of %s, want %s", n.name, got.Short(), ca.Short())
			}
			held := n.node.caKey.Load()
			if held == nil || *held != ca {
				return n.name + " has not its key"
			}
		}
		return ""
	})
}

func TestOneCAFollowsAnotherThroughALeaderThatDies(t *testing.T) {
	b := newBed(t)
	nodes := b.cluster(3, InitRequest{JoinTokens: 4})
	b.voters(3)
	old := b.ca()
	oldKey := keyOf(t, nodes[0])
	follower := nodes[1]
	if b.leader() == follower {
		follower = nodes[2]
	}
	follower.rotate(false)
	newest := b.ca()
	if newest == old {
		t.Fatal("the CA is the same")
	}
	b.leader().restart() // whoever leads goes on
	b.renewedBy(newest)
	if keyOf(t, nodes[0]) == oldKey {
		t.Error("the key is the old CA's")
	}
	// A second one is refused while the first is under way.
	cmd := &clusterpb.Command{Change: &clusterpb.Command_RotateCa{RotateCa: &clusterpb.RotateCA{}}}
	if answer, err := follower.node.Propose(follower.ctx(), cmd); err != nil || answer.GetRefusal().GetKind() != clusterpb.Refusal_EXISTS {
		t.Errorf("a second rotation: %v %v", answer, err)
	}

	// A node that slept through all of it knows the old CA only, and is let in
	// by what that has signed.
	follower.rotate(true)
	b.eventually("the old CA is dropped", func() string {
		for _, n := range nodes {
			if creds := n.node.credentials(); creds.CAs.Has(old) || n.node.State().Cluster().GetCaRotation() != nil {
				return fmt.Sprintf("%s awaits %v", n.name, n.node.AwaitedForCA())
			}
		}
		return ""
	})
	follower.propose(putTenant("after-the-rotation"))
	for _, n := range nodes {
		n.restart()
	}
	b.leader()
	follower.propose(putTenant("after-restarts"))
	b.agree()
	b.noKeyInRaft(oldKey, keyOf(t, nodes[0]))
}

func TestAnOldCAStaysWhileAMemberNeedsIt(t *testing.T) {
	b := newBed(t)
	nodes := b.cluster(3, InitRequest{JoinTokens: 4})
	b.voters(3)
	old := b.ca()
	b.leader()
	away := nodes[2]
	away.stop()
	live := nodes[0]
	live.rotate(false)
	live.rotate(true)
	newest := b.ca()
	b.renewedBy(newest)
	if got := live.node.AwaitedForCA(); len(got) != 1 || got[0] != "n3" {
		t.Errorf("awaited are %v, want n3", got)
	}
	if !live.node.credentials().CAs.Has(old) {
		t.Error("the old CA was dropped though n3 has a certificate of it")
	}
	away.start()
	b.eventually("the old CA is dropped once n3 has another certificate", func() string {
		if live.node.State().Cluster().GetCaRotation() != nil {
			return fmt.Sprint(live.node.AwaitedForCA())
		}
		return ""
	})
	b.renewedBy(newest)
	b.agree()
}

func TestARotationWhoseKeyIsLostIsBegunAgain(t *testing.T) {
	b := newBed(t)
	nodes := b.cluster(1, InitRequest{JoinTokens: 2})
	n := nodes[0]
	oldCA, err := n.node.pki.CA()
	if err != nil {
		t.Fatal(err)
	}
	n.rotate(false)
	lost := b.ca()
	b.renewedBy(lost)
	// The only node that had the key comes back with the old one.
	if err := n.node.pki.SaveCAKey(oldCA.Key()); err != nil {
		t.Fatal(err)
	}
	n.node.noteCAKey()
	b.eventually("a rotation is begun again", func() string {
		cmd := &clusterpb.Command{Change: &clusterpb.Command_RotateCa{RotateCa: &clusterpb.RotateCA{}}}
		answer, err := n.node.Propose(n.ctx(), cmd)
		if err != nil || answer.GetRefusal() != nil {
			return fmt.Sprint(answer.GetRefusal(), err)
		}
		return ""
	})
	newest := b.ca()
	if newest == lost || newest == oldCA.Fingerprint() {
		t.Error("the newest CA is not new")
	}
	b.renewedBy(newest)
	n.rotate(true)
	b.eventually("the old ones are dropped", func() string {
		if c := n.node.credentials().CAs.Certificates(); len(c) != 1 {
			return fmt.Sprintf("%d CAs", len(c))
		}
		return ""
	})
}

func keyOf(t *testing.T, n *bedNode) string {
	t.Helper()
	ca, err := n.node.pki.CA()
	if err != nil {
		t.Fatal(err)
	}
	text, err := ca.Key().PEM()
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// noKeyInRaft looks through every file below raft/, snapshots included, for
// any form of these keys (PEM) and of the nodes' own.
func (b *bed) noKeyInRaft(keys ...string) {
	b.t.Helper()
	var needles [][]byte
	for _, n := range b.nodes {
		own, err := os.ReadFile(filepath.Join(n.dir, "pki", "node.key"))
		if err != nil {
			b.t.Fatal(err)
		}
		keys = append(keys, string(own))
		if n.node != nil {
			if err := n.node.engine.Load().raft.Snapshot().Error(); err != nil {
				b.t.Fatalf("snapshot on %s: %v", n.name, err)
			}
		}
	}
	for _, key := range keys {
		block, _ := pem.Decode([]byte(key))
		parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
		if err != nil {
			b.t.Fatal(err)
		}
		scalar, err := parsed.(interface{ Bytes() ([]byte, error) }).Bytes()
		if err != nil {
			b.t.Fatal(err)
		}
		needles = append(needles, block.Bytes, scalar, []byte(strings.Split(key, "\n")[1]))
	}
	snapshots := 0
	for _, n := range b.nodes {
		err := filepath.WalkDir(filepath.Join(n.dir, "raft"), func(path string, d os.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			text, err := os.ReadFile(path)
			if strings.Contains(path, "snapshots") && d.Name() == "state.bin" {
				snapshots++
			}
			for _, needle := range needles {
				if bytes.Contains(text, needle) {
					b.t.Errorf("%s holds a private key", path)
				}
			}
			return err
		})
		if err != nil {
			b.t.Fatal(err)
		}
	}
	if snapshots == 0 {
		b.t.Error("no snapshot was looked through")
	}
}

// Who has the key and no vote is relieved of it, also where it lost the vote
// while nobody could tell it so.
func TestTheCAKeyIsTakenFromWhoHasNoVote(t *testing.T) {
	b := newBed(t)
	b.timing.Stable = time.Hour // n2 gets no vote
	nodes := b.cluster(2, InitRequest{})
	ca, err := nodes[0].node.pki.CA()
	if err != nil {
		t.Fatal(err)
	}
	if err := nodes[0].node.handOver(t.Context(), "n2", ca.Key()); err != nil {
		t.Fatal(err)
	}
	b.eventually("n2 has no key", func() string {
		if _, err := nodes[1].node.pki.CA(); errors.Is(err, pki.ErrAbsent) {
			return ""
		}
		return "it has"
	})
	if _, err := nodes[0].node.pki.CA(); err != nil {
		t.Errorf("n1 has none either: %v", err)
	}
}

// A leader that was never given the key gets it from who has it, and nobody but
// voters keeps it.
func TestTheCAKeyFindsItsWayToTheLeader(t *testing.T) {
	b := newBed(t)
	b.cluster(3, InitRequest{JoinTokens: 4})
	b.voters(3)
	leader := b.leader()
	if err := leader.node.dropCAKey(); err != nil {
		t.Fatal(err)
	}
	b.eventually("the leader has the key again", func() string {
		if leader.node.caKey.Load() == nil {
			return "not yet"
		}
		return ""
	})
	// Losing the vote is losing the key, also where the word of it was lost.
	e := leader.node.engine.Load()
	var voter string
	for name, role := range leader.node.roles(e) {
		if role == roleVoter {
			voter = name
		}
	}
	for _, n := range b.nodes {
		if n.name != voter {
			continue
		}
		strange, err := pki.NewKey()
		if err != nil {
			t.Fatal(err)
		}
		if err := leader.node.handOver(t.Context(), voter, strange); err == nil {
			t.Error("a key that is not the CA's was taken")
		}
		if _, err := n.node.pki.CA(); errors.Is(err, pki.ErrAbsent) {
			t.Error("and the CA's own was lost by it")
		}
	}
}

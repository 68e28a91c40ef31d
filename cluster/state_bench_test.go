package cluster

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"testing"

	"github.com/muster-metrics/muster/proto/clusterpb"
)

// large is a cluster with many nodes and tenants; each tenant has limits of its
// own and a token.
func large(b *testing.B, nodes, tenants int) *State {
	b.Helper()
	init := initCluster("node-0", 3)
	init.Slots = DefaultSlots
	set := DefaultSettings()
	set.MaxTenants = maxMaxTenants
	init.Settings = set
	s, res := EmptyState().Apply(1, withTime(command(init), testTime))
	rev := uint64(1)
	do := func(cmd *clusterpb.Command) {
		rev++
		if s, res = s.Apply(rev, withTime(cmd, testTime)); res.Refusal != nil {
			b.Fatal(res.Refusal)
		}
	}
	for i := 1; i < nodes; i++ {
		name := fmt.Sprintf("node-%d", i)
		do(command(nodeToken("join-"+name, testTime+hour)))
		do(command(joining(name, name, false)))
		do(command(&clusterpb.ActivateMember{Name: name}))
	}
	retention, series := 15*day, int64(1_000_000)
	for i := range tenants {
		id := fmt.Sprintf("tenant-%d", i)
		do(command(&clusterpb.PutTenant{Id: id, Spec: &clusterpb.TenantSpec{
			RetentionMs: &retention, Limits: &clusterpb.Limits{ActiveSeries: &series},
		}}))
		do(command(&clusterpb.CreateTenantToken{Tenant: id, Token: &clusterpb.TenantToken{
			Id: "token", Hash: binary.BigEndian.AppendUint64(make([]byte, 24, 32), uint64(i)),
		}}))
	}
	return s
}

// BenchmarkApplyPutTenant is the cost of one tenant's change among many: the
// same whatever their number.
func BenchmarkApplyPutTenant(b *testing.B) {
	for _, tenants := range []int{100, 10_000, 100_000} {
		b.Run(fmt.Sprintf("tenants=%d", tenants), func(b *testing.B) {
			s := large(b, 1, tenants)
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				cmd := command(&clusterpb.PutTenant{Id: fmt.Sprintf("tenant-%d", i%tenants), State: clusterpb.TenantState_TENANT_SUSPENDED})
				s, _ = s.Apply(s.Revision()+1, withTime(cmd, testTime))
				i++
			}
		})
	}
}

// BenchmarkPutRing recomputes the routes of all tenants.
func BenchmarkPutRing(b *testing.B) {
	s := large(b, 3, 100_000)
	b.ReportAllocs()
	for b.Loop() {
		cmd := command(&clusterpb.PutRing{Name: "hard", Tenants: []string{"tenant-1", "team-*"}, ReplicationFactor: 2})
		s.Place(cmd)
		s, _ = s.Apply(s.Revision()+1, withTime(cmd, testTime))
	}
}

func BenchmarkSnapshot(b *testing.B) {
	s := large(b, 1000, 100_000)
	var buf bytes.Buffer
	if _, err := s.WriteTo(&buf); err != nil {
		b.Fatal(err)
	}
	b.Run("write", func(b *testing.B) {
		b.ReportAllocs()
		b.SetBytes(int64(buf.Len()))
		for b.Loop() {
			if _, err := s.WriteTo(io.Discard); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("restore", func(b *testing.B) {
		b.ReportAllocs()
		b.SetBytes(int64(buf.Len()))
		for b.Loop() {
			if _, err := ReadState(bytes.NewReader(buf.Bytes())); err != nil {
				b.Fatal(err)
			}
		}
	})
}

package admin

import (
	"fmt"
	"slices"
	"testing"
)

// join makes a further node a member through its own API.
func (b *bed) join(name, token string) *bed {
	b.t.Helper()
	n := newNode(b.t, name)
	n.call("POST", "/cluster/join", fmt.Sprintf(`{"token":%q,"address":%q}`, token, b.door.Addr()), 200)
	return n
}

func (b *bed) status() statusObject {
	b.t.Helper()
	var st statusObject
	b.call("GET", "/cluster/status", "", 200).as(&st)
	return st
}

func (st statusObject) node(name string) nodeStatus {
	for _, n := range st.Nodes {
		if n.Name == name {
			return n
		}
	}
	return nodeStatus{}
}

// TestThreeNodes goes through the life of a cluster by its admin API alone.
func TestThreeNodes(t *testing.T) {
	n1 := newNode(t, "n1")
	var made struct {
		JoinTokens []string `json:"join_tokens"`
	}
	n1.call("POST", "/cluster/init", `{"name":"test","replication_factor":3,"slots":16}`, 200).as(&made)
	if st := n1.status(); st.Healthy || st.FailureTolerance != 0 || st.Rings[0].Short != 16 || len(st.Problems) == 0 {
		t.Errorf("one node for three replicas: %+v", st)
	}
	n2, n3 := n1.join("n2", made.JoinTokens[0]), n1.join("n3", made.JoinTokens[1])
	n2.refused("POST", "/cluster/init", `{}`, 409, "")

	for _, n := range []*bed{n1, n2, n3} {
		eventually(t, n.name+" sees three healthy voters", func() bool {
			st := n.status()
			return st.Healthy && st.FailureTolerance == 1 && len(st.Nodes) == 3 && st.Rings[0].Moving == 0 && st.node("n3").Slots == 16
		})
	}

	// Any node takes a change, and what it answered every node reads.
	var out outcome
	n3.call("PUT", "/tenants/a", `{}`, 200).as(&out)
	if !slices.Equal(out.Applied, []string{"n1", "n2", "n3"}) || len(out.Pending) != 0 {
		t.Errorf("answer %+v", out)
	}
	for _, n := range []*bed{n1, n2, n3} {
		n.call("GET", "/tenants/a", "", 200)
		r := n.call("GET", "/tenants/a?consistency=local", "", 200)
		if r.header.Get("Muster-Last-Contact") == "" || r.header.Get("Muster-Last-Contact") == "-1" || r.header.Get("Muster-Revision") == "" {
			t.Errorf("%s: headers %v", n.name, r.header)
		}
	}

	leader := n1.status().Leader
	follower := n2
	if leader == "n2" {
		follower = n3
	}
	follower.refused("POST", "/cluster/leader", `{"node":"nobody"}`, 404, "")
	byName := map[string]*bed{"n1": n1, "n2": n2, "n3": n3}
	byName[leader].refused("POST", "/cluster/leader", `{"node":"nobody"}`, 404, "")
	byName[leader].call("POST", "/cluster/leader", fmt.Sprintf(`{"node":%q}`, follower.name), 200)
	eventually(t, "leadership is handed over", func() bool { return n1.status().Leader == follower.name })

	// A node that is not heard makes the cluster unhealthy, and goes by force only.
	n1.call("PUT", "/rings/default", `{"replication_factor":2}`, 200)
	eventually(t, "the ring follows", func() bool {
		st := n1.status()
		return st.Rings[0].Moving == 0 && st.node("n1").Slots+st.node("n2").Slots+st.node("n3").Slots == 32
	})
	n1.call("DELETE", "/cluster/members/n3?dry_run=true", "", 200)
	n1.refused("DELETE", "/cluster/members/n3?force=true", "", 409, "") // it answers
	n3.stop()
	eventually(t, "n3 is removed", func() bool {
		r := ask(t, n1.socket, "http://muster/api/v1/cluster/members/n3?force=true", "DELETE", "")
		return r.code == 200
	})
	eventually(t, "two nodes are healthy", func() bool {
		st := n1.status()
		return st.Healthy && len(st.Nodes) == 2 && st.Rings[0].Short == 0
	})

	// Without a quorum of voters nothing changes and nothing fresh is read; how
	// it is, every node still says.
	n2.stop()
	eventually(t, "the leader is gone", func() bool {
		r := ask(t, n1.socket, "http://muster/api/v1/tenants", "GET", "")
		return r.code == 503
	})
	for _, e := range []refused{
		n1.refused("GET", "/tenants", "", 503, ""),
		n1.refused("PUT", "/tenants/b", `{}`, 503, ""),
		n1.refused("PUT", "/tenants/b?dry_run=true", `{}`, 503, ""),
	} {
		if !slices.Equal(e.Voters, []string{"n1", "n2"}) && !slices.Equal(e.Voters, []string{"n2", "n1"}) ||
			!slices.Equal(e.Missing, []string{"n2"}) || e.Since == "" || e.Next == "" {
			t.Errorf("answer %+v", e)
		}
	}
	n1.call("GET", "/tenants/a?consistency=local", "", 200)
	if st := n1.status(); st.Healthy || st.Leader != "" || len(st.Problems) == 0 || st.Cluster != "test" {
		t.Errorf("status %+v", st)
	}
}

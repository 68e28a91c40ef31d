package admin

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/muster-metrics/muster/cluster"
	"github.com/muster-metrics/muster/proto/clusterpb"
)

const someID = "00112233-4455-6677-8899-aabbccddeeff"

// TestARepeatedRequestIsMadeOnce: whoever did not hear the answer asks again.
func TestARepeatedRequestIsMadeOnce(t *testing.T) {
	b := newCluster(t)
	first := b.call("PUT", "/tenants/a", `{"retention":"1d"}`, 200, requestHeader, someID, "If-None-Match", "*")
	if got := first.header.Get(requestHeader); got != strings.ReplaceAll(someID, "-", "") {
		t.Errorf("the answer shows the id %q", got)
	}
	b.call("PUT", "/tenants/b", `{}`, 200)
	again := b.call("PUT", "/tenants/a?timeout=3s", `{"retention":"1d"}`, 200, requestHeader, someID, "If-None-Match", "*")
	if again.header.Get("ETag") != first.header.Get("ETag") || again.header.Get("Muster-Revision") != first.header.Get("Muster-Revision") {
		t.Errorf("answered %v, at first %v", again.header, first.header)
	}
	b.refused("PUT", "/tenants/a", `{"retention":"2d"}`, 400, requestHeader, requestHeader, someID, "If-None-Match", "*")
	b.refused("PUT", "/tenants/c", `{"retention":"1d"}`, 400, requestHeader, requestHeader, someID, "If-None-Match", "*")
	if own := b.call("PUT", "/tenants/a", `{}`, 200).header.Get(requestHeader); len(own) != 32 {
		t.Errorf("an id was not made: %q", own)
	}
}

// TestARepeatedTokenIsTheSame as far as this process can know it, and never one
// that lets nobody in.
func TestARepeatedTokenIsTheSame(t *testing.T) {
	b := newCluster(t)
	b.call("PUT", "/tenants/a", `{}`, 200)
	for path, body := range map[string]string{"/tokens": `{"role":"viewer","expires":"1h"}`, "/tenants/a/tokens": ""} {
		var one, two struct{ ID, Token string }
		id := fmt.Sprintf("%032x", len(path))
		b.call("POST", path, body, 200, requestHeader, id).as(&one)
		b.call("POST", path, body, 200, requestHeader, id).as(&two)
		if one != two || one.Token == "" {
			t.Errorf("%s: %+v, asked again %+v", path, one, two)
		}
		b.call("POST", path, body, 200).as(&two)
		if one.Token == two.Token || one.ID == two.ID {
			t.Errorf("%s: two requests have one token", path)
		}
		// Another process cannot know the secret, and says so.
		elsewhere := New(b.node, Config{Name: "n1"}).(*api)
		was := b.swap(elsewhere)
		if e := b.refused("POST", path, body, 409, "", requestHeader, id); !strings.Contains(e.Error, one.ID) || e.Next == "" {
			t.Errorf("%s: %+v", path, e)
		}
		b.swap(was)
	}
}

// lost is a node whose changes end in the dark.
type lost struct{ Node }

func (lost) Propose(context.Context, *clusterpb.Command) (*clusterpb.ProposeResponse, error) {
	return nil, fmt.Errorf("n2: %w", cluster.ErrUnknownOutcome)
}

func TestAnUnknownOutcomeSaysHowToRepeat(t *testing.T) {
	b := newCluster(t)
	was := b.swap(New(lost{b.node}, Config{Name: "n1"}))
	defer b.swap(was)
	r := b.call("PUT", "/tenants/a", `{}`, 503)
	var p problem
	r.as(&p)
	if len(p.RequestID) != 32 || r.header.Get(requestHeader) != p.RequestID || !strings.Contains(p.Next, p.RequestID) || !strings.Contains(p.Message, "may have been made") {
		t.Errorf("%s", r.text)
	}
	b.swap(was)
	b.call("PUT", "/tenants/a", `{}`, 200, requestHeader, p.RequestID)
}

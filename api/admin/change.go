package admin

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"strconv"

	"github.com/muster-metrics/muster/cluster"
	"github.com/muster-metrics/muster/proto/clusterpb"
)

// change is what a request asks for.
type change struct {
	command *clusterpb.Command
	// present is the object that would change, as it is: the answer where it is
	// not what the asker expected.
	present func(*cluster.State) (object, error)
	// body makes the answer; nil: the plain one.
	body func(outcome) any
	// full makes the answer of a dry run, too; nil: body does, or the plain one.
	full func(outcome) any
	// made says whether the state has what the answer will show. It has not
	// where the request was answered before, by another process, with a secret
	// that this one cannot know. nil: nothing secret is shown.
	made func(*cluster.State) bool
}

// outcome is the answer to a change.
type outcome struct {
	Revision uint64   `json:"revision"`
	Applied  []string `json:"applied"`
	Pending  []string `json:"pending"`
	DryRun   bool     `json:"dry_run,omitempty"`
}

// change proposes what the request asks for. With `?dry_run=true` it is carried
// out on a copy of the newest state, which is then dropped. A request that is
// repeated with its id is answered again and made once.
func (a *api) change(ask func(*http.Request) (change, error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id, r, err := askingOf(w, r)
		if err != nil {
			a.fail(w, r, err)
			return
		}
		w.Header().Set(requestHeader, hex.EncodeToString(id.id))
		c, dry, answer, err := a.carryOut(r, id, ask)
		if err != nil {
			a.fail(w, r, withRequest(err, id))
			return
		}
		if v := answer.GetVersion(); v != 0 && !dry {
			w.Header().Set("ETag", etag(v))
		}
		out := outcome{
			Revision: answer.GetRevision(), Applied: append([]string{}, answer.GetApplied()...),
			Pending: append([]string{}, answer.GetPending()...), DryRun: dry,
		}
		w.Header().Set("Muster-Revision", strconv.FormatUint(out.Revision, 10))
		if c.full != nil {
			send(w, http.StatusOK, c.full(out))
			return
		}
		if c.body != nil && !dry { // a secret that nothing knows helps nobody
			send(w, http.StatusOK, c.body(out))
			return
		}
		send(w, http.StatusOK, out)
	})
}

// carryOut does what the request asks for, or rehearses it.
func (a *api) carryOut(r *http.Request, id asking, ask func(*http.Request) (change, error)) (change, bool, *clusterpb.ProposeResponse, error) {
	c, err := ask(r)
	if err == nil {
		err = address(r, c.command)
	}
	if err != nil {
		return c, false, nil, err
	}
	dry, err := isDryRun(r)
	if err != nil {
		return c, false, nil, err
	}
	limit, err := a.timeoutOf(r)
	if err != nil {
		return c, dry, nil, err
	}
	ctx, cancel := context.WithTimeout(r.Context(), limit)
	defer cancel()
	propose := a.node.Propose
	if dry {
		propose = a.rehearse
	} else {
		c.command.RequestId, c.command.RequestDigest = id.id, id.digest
	}
	answer, err := propose(ctx, c.command)
	switch {
	case err != nil:
		return c, dry, nil, err
	case answer.GetRefusal() != nil:
		return c, dry, nil, a.refused(answer.GetRefusal(), c)
	case !dry && c.made != nil && a.node.State().Revision() >= answer.GetRevision() && !c.made(a.node.State()):
		return c, dry, nil, a.shownBefore(answer.GetRevision())
	}
	return c, dry, answer, nil
}

// withRequest says with which id a change can be repeated of which nobody knows
// whether it was made.
func withRequest(err error, id asking) error {
	p := *problemOf(err)
	if errors.Is(err, cluster.ErrUnknownOutcome) || p.unknown {
		p.RequestID = hex.EncodeToString(id.id)
		p.Next = "repeat the same request with " + requestHeader + ": " + p.RequestID + " within ten minutes: it is made once, and answered with what became of it"
	}
	return &p
}

// shownBefore is the answer to a repeated request whose secret is gone.
func (a *api) shownBefore(revision uint64) error {
	ev := a.node.State().Event(revision)
	return &problem{
		code:    http.StatusConflict,
		Message: fmt.Sprintf("this request was answered before, at revision %d (%s %s %s); the secret was in that answer only", revision, ev.GetAction(), ev.GetObject(), ev.GetDetail()),
		Next:    "revoke it, and ask for another with another " + requestHeader,
	}
}

// refused adds the object as it is, where the asker expected another.
func (a *api) refused(r *clusterpb.Refusal, c change) error {
	p := refusal(r)
	if p.code == http.StatusPreconditionFailed && c.present != nil {
		if o, err := c.present(a.node.State()); err == nil {
			p.Current, p.version = o.body, o.version
		}
	}
	return p
}

// rehearse asks what the change would be answered, and makes none.
func (a *api) rehearse(ctx context.Context, cmd *clusterpb.Command) (*clusterpb.ProposeResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, a.cfg.ReadTimeout)
	defer cancel()
	return a.node.Rehearse(ctx, cmd)
}

func isDryRun(r *http.Request) (bool, error) { return flagOf(r, "dry_run") }

// address writes onto the command who asks, and what it expects to find.
func address(r *http.Request, cmd *clusterpb.Command) error {
	c := callerOf(r)
	cmd.Actor, cmd.Source = c.actor, c.source
	match, none := r.Header.Get("If-Match"), r.Header.Get("If-None-Match")
	if len(r.Header.Values("If-Match"))+len(r.Header.Values("If-None-Match")) > 1 {
		return bad("If-Match", "want one If-Match or one If-None-Match")
	}
	switch {
	case match == "" && none == "":
		return nil
	case match == "" && none == "*":
		cmd.ExpectedVersion = new(int64)
		return nil
	case none != "":
		return bad("If-None-Match", "If-None-Match %q: want * alone, for what must not exist", none)
	}
	if text, err := strconv.Unquote(match); err == nil {
		match = text
	}
	v, err := strconv.ParseInt(match, 10, 64)
	if err != nil || v < 0 {
		return bad("If-Match", `If-Match %q: want a version, as an ETag gives it; "0" for what must not exist`, cut(match))
	}
	cmd.ExpectedVersion = &v
	return nil
}

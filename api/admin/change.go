package admin

import (
	"context"
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
}

// outcome is the answer to a change.
type outcome struct {
	Revision uint64   `json:"revision"`
	Applied  []string `json:"applied"`
	Pending  []string `json:"pending"`
	DryRun   bool     `json:"dry_run,omitempty"`
}

// change proposes what the request asks for. With `?dry_run=true` it is carried
// out on a copy of the newest state, which is then dropped.
func (a *api) change(ask func(*http.Request) (change, error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		c, err := ask(r)
		if err == nil {
			err = address(r, c.command)
		}
		if err != nil {
			a.fail(w, r, err)
			return
		}
		ctx, cancel := context.WithTimeout(r.Context(), a.cfg.ChangeTimeout)
		defer cancel()
		dry, err := isDryRun(r)
		if err != nil {
			a.fail(w, r, err)
			return
		}
		propose := a.node.Propose
		if dry {
			propose = a.rehearse
		}
		answer, err := propose(ctx, c.command)
		if err == nil && answer.GetRefusal() != nil {
			err = a.refused(answer.GetRefusal(), c)
		}
		if err != nil {
			a.fail(w, r, err)
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

func isDryRun(r *http.Request) (bool, error) {
	v := r.URL.Query().Get("dry_run")
	if v == "" {
		return false, nil
	}
	dry, err := strconv.ParseBool(v)
	if err != nil {
		return false, bad("dry_run", "dry_run %q: want true or false", v)
	}
	return dry, nil
}

// address writes onto the command who asks, and what it expects to find.
func address(r *http.Request, cmd *clusterpb.Command) error {
	c := callerOf(r)
	cmd.Actor, cmd.Source = c.actor, c.source
	match, none := r.Header.Get("If-Match"), r.Header.Get("If-None-Match")
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
		return bad("If-Match", `If-Match %q: want a version, as an ETag gives it; "0" for what must not exist`, match)
	}
	cmd.ExpectedVersion = &v
	return nil
}

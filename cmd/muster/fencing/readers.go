package fencing

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/muster-metrics/muster/cmd/muster/fleet"
)

const (
	readPace = 700 * time.Millisecond
	// readPatience is longer than a node waits for a leader and a silent member.
	readPatience = 30 * time.Second
)

// reading is an answer of a node.
type reading struct {
	complete bool
	says     string // why it is not
	// found are the values by series label and Unix milliseconds.
	found map[string]map[int64]float64
}

var errNoAnswer = errors.New("no answer")

// read asks a node for all samples of the metric.
func read(ctx context.Context, cl *http.Client, n *fleet.Node, metric string) (reading, error) {
	ctx, cancel := context.WithTimeout(ctx, readPatience)
	defer cancel()
	at := time.Now().Add(time.Second).UnixMilli()
	form := url.Values{"query": {metric + "[15m]"}, "time": {strconv.FormatFloat(float64(at)/1000, 'f', 3, 64)}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+n.Write+"/api/v1/query?"+form.Encode(), http.NoBody)
	if err != nil {
		return reading{}, err
	}
	req.Header.Set("THANOS-TENANT", tenantID)
	resp, err := cl.Do(req)
	if err != nil {
		return reading{}, fmt.Errorf("%w: %w", errNoAnswer, err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		return reading{}, fmt.Errorf("%w: %w", errNoAnswer, err)
	}
	return readingOf(resp.StatusCode, resp.Header.Get("Muster-Complete"), raw)
}

func readingOf(status int, complete string, raw []byte) (reading, error) {
	var a struct {
		ErrorType, Error string
		Data             struct {
			Result []struct {
				Metric map[string]string
				Values [][2]any
			}
		}
	}
	if err := json.Unmarshal(raw, &a); err != nil {
		return reading{}, fmt.Errorf("status %d: %w", status, err)
	}
	if status != http.StatusOK {
		if status != http.StatusServiceUnavailable {
			return reading{}, fmt.Errorf("status %d: %s", status, a.Error)
		}
		return reading{says: a.ErrorType + ": " + a.Error}, nil
	}
	r := reading{complete: complete == "true", says: "no word of it", found: map[string]map[int64]float64{}}
	for _, s := range a.Data.Result {
		values := map[int64]float64{}
		for _, v := range s.Values {
			at, ok := v[0].(float64)
			value, err := strconv.ParseFloat(fmt.Sprint(v[1]), 64)
			if !ok || err != nil {
				return reading{}, fmt.Errorf("sample %v", v)
			}
			values[int64(math.Round(at*1000))] = value
		}
		r.found[s.Metric["series"]] = values
	}
	return r, nil
}

// explains says whether an incomplete answer tells of what and of whom: ring,
// slots and stores, or that this node cannot know who holds what.
func (r reading) explains() bool {
	switch {
	case strings.Contains(r.says, "incomplete answer"):
		return strings.Contains(r.says, `ring "default" slots `) && strings.Contains(r.says, ", missing n") ||
			strings.Contains(r.says, "it cannot tell who holds what") || strings.Contains(r.says, "no leader has confirmed revision")
	default: // a node that has just started, or is busy, says other things
		return strings.HasPrefix(r.says, "timeout:") || strings.HasPrefix(r.says, "unavailable:")
	}
}

// lost are the acknowledged samples that the answer does not have, the first of
// them in words.
func (r reading) lost(l *load, before []post) (n int, first string) {
	miss := func(p *post, s series) {
		v, ok := r.found[s.label][p.at]
		if ok && v == valueAt(p.at) {
			return
		}
		if n++; n == 1 {
			first = fmt.Sprintf("%d of slot %d, acknowledged by %s at %s", p.at, s.slot, p.node, p.ended.Format("15:04:05.000"))
		}
	}
	for i := range before {
		p := &before[i]
		switch {
		case !p.acked():
		case p.which >= 0:
			miss(p, l.series[p.which])
		default:
			for _, s := range l.series {
				miss(p, s)
			}
		}
	}
	return n, first
}

// readers ask every node.
type readers struct {
	load *load
	http http.Client

	mu                   sync.Mutex
	complete, incomplete int
	findings             []string
	asked                map[string]time.Time // when the last answer of a node was asked for
	said                 map[string]int       // incomplete answers by their text, cut short
}

func newReaders(l *load) *readers {
	return &readers{load: l, said: map[string]int{}, asked: map[string]time.Time{}}
}

// once asks a node and judges the answer; false: it does not call itself complete.
func (r *readers) once(ctx context.Context, n *fleet.Node) (complete bool, says string) {
	before := r.load.ledger.all() // all that was acknowledged before it is asked
	began := time.Now()
	got, err := read(ctx, &r.http, n, r.load.metric)
	if errors.Is(err, errNoAnswer) {
		return false, err.Error()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.asked[n.Name] = began
	switch {
	case err != nil:
		r.findings = append(r.findings, fmt.Sprintf("%s answers a query with %v", n.Name, err))
		return false, err.Error()
	case !got.complete:
		r.incomplete++
		if !got.explains() {
			r.findings = append(r.findings, fmt.Sprintf("%s says of an incomplete answer only %q", n.Name, got.says))
		}
		r.said[n.Name+": "+got.says[:min(len(got.says), 200)]]++
		return false, got.says
	}
	r.complete++
	if lost, first := got.lost(r.load, before); lost > 0 {
		r.findings = append(r.findings, fmt.Sprintf("%s calls its answer of %s complete, which lacks %d acknowledged samples: %s",
			n.Name, began.Format("15:04:05.000"), lost, first))
	}
	return true, ""
}

// ask asks a node again and again until ctx ends.
func (r *readers) ask(ctx context.Context, n *fleet.Node) {
	for ctx.Err() == nil {
		r.once(ctx, n)
		select {
		case <-ctx.Done():
		case <-time.After(readPace):
		}
	}
}

// answered waits until each node has answered something that it was asked after
// since: a member that is silent makes the first answer take ten seconds.
func (r *readers) answered(ctx context.Context, nodes []*fleet.Node, since time.Time) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		r.mu.Lock()
		waits := slices.IndexFunc(nodes, func(n *fleet.Node) bool { return !r.asked[n.Name].After(since) })
		r.mu.Unlock()
		if waits < 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s answers no query: %w", nodes[waits].Name, ctx.Err())
		case <-time.After(50 * time.Millisecond):
		}
	}
}

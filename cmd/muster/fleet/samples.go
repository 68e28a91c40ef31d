package fleet

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// Post sends a remote-write 1.0 body, compressed already, to the node's write
// door as a tenant that a header names. attempt counts the tries before. The
// status is 0 where there was no answer; says is its beginning, or the error.
func (n *Node) Post(ctx context.Context, client *http.Client, tenant string, body []byte, attempt int) (status int, says string) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+n.Write+"/api/v1/receive", bytes.NewReader(body))
	if err != nil {
		return 0, err.Error()
	}
	req.Header.Set("Content-Encoding", "snappy")
	req.Header.Set("Content-Type", "application/x-protobuf")
	req.Header.Set("THANOS-TENANT", tenant)
	if attempt > 0 {
		req.Header.Set("Retry-Attempt", strconv.Itoa(attempt))
	}
	resp, err := client.Do(req)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(io.LimitReader(resp.Body, 1000))
	return resp.StatusCode, string(bytes.TrimSpace(text))
}

// Sum asks the node for an instant vector of a tenant and adds its values up; 0
// where there is none. An incomplete answer is an error.
func (n *Node) Sum(ctx context.Context, tenant, expr string, at time.Time) (int64, error) {
	out, err := n.CLI(ctx, "query", "-t", tenant, "-o", "json", "--time", strconv.FormatFloat(float64(at.UnixMilli())/1000, 'f', 3, 64), expr)
	if err != nil {
		return 0, fmt.Errorf("ask %s for %s: %w", n.Name, expr, err)
	}
	return n.added(out)
}

// Ask is Sum by the tenant's own query API at the write door, where a header
// names it.
func (n *Node) Ask(ctx context.Context, client *http.Client, tenant, expr string, at time.Time) (int64, error) {
	q := url.Values{"query": {expr}, "time": {strconv.FormatFloat(float64(at.UnixMilli())/1000, 'f', 3, 64)}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+n.Write+"/api/v1/query?"+q.Encode(), nil)
	if err != nil {
		return 0, err
	}
	req.Header.Set("THANOS-TENANT", tenant)
	resp, err := client.Do(req)
	if err != nil {
		return 0, fmt.Errorf("ask %s for %s: %w", n.Name, expr, err)
	}
	defer resp.Body.Close()
	out, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, fmt.Errorf("ask %s for %s: %w", n.Name, expr, err)
	}
	if resp.StatusCode != http.StatusOK {
		return 0, fmt.Errorf("ask %s for %s: %s: %s", n.Name, expr, resp.Status, bytes.TrimSpace(out[:min(len(out), 1000)]))
	}
	return n.added(out)
}

// added is the sum of an instant vector.
func (n *Node) added(out []byte) (int64, error) {
	var a struct {
		Data struct {
			Result []struct {
				Value [2]any `json:"value"`
			} `json:"result"`
		} `json:"data"`
	}
	if err := json.Unmarshal(out, &a); err != nil {
		return 0, fmt.Errorf("read the answer of %s: %w", n.Name, err)
	}
	var sum int64
	for _, r := range a.Data.Result {
		v, err := strconv.ParseInt(fmt.Sprint(r.Value[1]), 10, 64)
		if err != nil {
			return 0, fmt.Errorf("read the answer of %s: %w", n.Name, err)
		}
		sum += v
	}
	return sum, nil
}

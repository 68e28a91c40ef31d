package main

import (
	"bytes"
	"encoding/binary"
	"runtime"
	"testing"
	"time"

	"github.com/golang/snappy"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/prompb"
	"github.com/stretchr/testify/require"
)

func TestBodiesThatAreNotRight(t *testing.T) {
	t.Parallel()
	beds(t, bodiesThatAreNotRight)
}

func bodiesThatAreNotRight(t *testing.T, b *bed) {
	last := len(b.nodes) - 1
	now := time.Now().UnixMilli()
	good := batch("m", 10, now)
	whole := body(good...)
	lying := append(binary.AppendUvarint(nil, 1<<31), snappy.Encode(nil, whole)[4:]...)
	unsorted := func() []byte {
		wr := prompb.WriteRequest{Timeseries: []prompb.TimeSeries{{
			Labels:  []prompb.Label{{Name: "z", Value: "1"}, {Name: "__name__", Value: "unsorted"}, {Name: "a", Value: ""}},
			Samples: []prompb.Sample{{Value: 1, Timestamp: now}},
		}}}
		raw, err := wr.Marshal()
		require.NoError(t, err)
		return raw
	}()
	for _, c := range []struct {
		name   string
		body   []byte
		header []string
		status int
	}{
		{"not snappy", []byte("hello"), nil, 400},
		{"cut in the middle", snappy.Encode(nil, whole[:len(whole)-3]), nil, 400},
		{"lies about its size", lying, nil, 413},
		{"a hundred megabytes", bytes.Repeat([]byte{7}, 100<<20), nil, 413},
		{"a hundred megabytes of nothing, compressed", snappy.Encode(nil, make([]byte, 100<<20)), nil, 400},
		{"unknown encoding", whole, []string{"Content-Encoding", "br"}, 415},
		{"unknown type", snappy.Encode(nil, whole), []string{"Content-Type", "application/json"}, 415},
		{"bad tenant", snappy.Encode(nil, whole), []string{"THANOS-TENANT", "../etc"}, 400},
		{"two tenants", snappy.Encode(nil, whole), []string{"X-Scope-OrgID", "b"}, 400},
		{"out of order labels and an empty one", snappy.Encode(nil, unsorted), nil, 204},
		{"good", snappy.Encode(nil, whole), nil, 204},
	} {
		status, text := b.post(last, "a", c.body, c.header...)
		require.Equal(t, c.status, status, "%s: %s", c.name, text)
		if status >= 400 {
			require.NotEmpty(t, text, c.name)
		}
	}
	for i := range b.nodes {
		require.Equal(t, map[string]float64{"{}": 10}, b.query(i, "-t", "a", "count(m)"))
		require.Equal(t, map[string]float64{`unsorted{z="1"}`: 1}, b.query(i, "-t", "a", "unsorted"), "the empty label is no label, the others are sorted")
	}
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	require.Less(t, m.HeapAlloc, uint64(512<<20), "the nodes are small again")
}

func TestTenantTokens(t *testing.T) {
	t.Parallel()
	beds(t, func(t *testing.T, b *bed) {
		b.cli(0, "settings", "set", "tenant_auth=token")
		b.cli(1, "tenant", "create", "a")
		token := string(bytes.TrimSpace([]byte(b.cli(2, "tenant", "token", "create", "a"))))
		raw := snappy.Encode(nil, body(sample{labels.FromStrings("__name__", "m"), time.Now().UnixMilli(), 1}))
		for _, c := range []struct {
			name   string
			tenant string
			header []string
			status int
		}{
			{"no credential", "", nil, 401},
			{"a header is none", "a", nil, 401},
			{"a wrong token", "", []string{"Authorization", "Bearer x" + token}, 401},
			{"another tenant's name", "b", []string{"Authorization", "Bearer " + token}, 403},
			{"the token", "", []string{"Authorization", "Bearer " + token}, 204},
			{"the token and its tenant", "a", []string{"Authorization", "Bearer " + token}, 204},
		} {
			for i := range b.nodes {
				status, text := b.post(i, c.tenant, raw, c.header...)
				require.Equal(t, c.status, status, "%s at n%d: %s", c.name, i+1, text)
			}
		}
	})
}

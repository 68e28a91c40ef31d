package store

import (
	"slices"

	"github.com/cespare/xxhash/v2"
	"github.com/prometheus/prometheus/model/labels"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/muster-metrics/muster/proto/storepb"
)

// shard is the part of the series that a request wants: those whose chosen
// labels hash to its index. Its arithmetic is Thanos': a Querier relies on
// every store dividing alike.
type shard struct {
	info *storepb.ShardInfo
	buf  []byte
}

func shardOf(info *storepb.ShardInfo) (*shard, error) {
	if info == nil || info.TotalShards < 1 {
		return nil, nil
	}
	if info.ShardIndex < 0 || info.ShardIndex >= info.TotalShards {
		return nil, status.Errorf(codes.InvalidArgument, "shard %d of %d", info.ShardIndex, info.TotalShards)
	}
	return &shard{info: info}, nil
}

// has says whether a series with these labels, as they are sent, belongs to it.
func (s *shard) has(ls labels.Labels) bool {
	if s == nil {
		return true
	}
	s.buf = s.buf[:0]
	ls.Range(func(l labels.Label) {
		if slices.Contains(s.info.Labels, l.Name) != s.info.By {
			return
		}
		s.buf = append(s.buf, l.Name...)
		s.buf = append(s.buf, 0xff)
		s.buf = append(s.buf, l.Value...)
		s.buf = append(s.buf, 0xff)
	})
	return xxhash.Sum64(s.buf)%uint64(s.info.TotalShards) == uint64(s.info.ShardIndex)
}

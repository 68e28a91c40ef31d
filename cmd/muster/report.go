package main

import (
	"golang.org/x/sys/unix"

	"github.com/muster-metrics/muster/proto/clusterpb"
)

// localReport is what this node tells the leader of its rooms.
type localReport struct{ node *node }

func (r localReport) Report(out *clusterpb.Report) {
	n := r.node
	out.Announced = n.ingest.Announced()
	out.Series = int64(n.tsdb.Stats().Series)
	if free, err := diskFree(n.folder.path); err == nil {
		out.DiskFreeBytes = free
	}
	if n.shipper != nil {
		out.HasBucket, out.UnshippedBlocks = true, int64(n.shipper.Pending())
	}
	for _, d := range n.ingest.Demands() {
		out.DemandTenants = append(out.DemandTenants, d.Tenant)
		out.DemandSamples = append(out.DemandSamples, d.Samples)
	}
	out.Emptied, out.RemovalProgress = n.leaver.Progress()
	lines := n.ready.failed()
	out.Ready = len(lines) == 0
	if !out.Ready {
		out.NotReadyReason = lines[0]
	}
}

// SetParts hands this node's parts of the tenants' demand to the write path.
func (r localReport) SetParts(of map[uint64]float64, rest float64) { r.node.ingest.SetParts(of, rest) }

// diskFree is what a process without privileges may still write, in bytes.
func diskFree(path string) (int64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil {
		return 0, err
	}
	return int64(st.Bavail) * st.Bsize, nil
}

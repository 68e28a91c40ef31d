package ingest

import "github.com/muster-metrics/muster/proto/peerpb"

type server struct {
	peerpb.UnimplementedReplicationServer
	ingester *Ingester
}

package otlp

import (
	"strings"

	"go.opentelemetry.io/collector/pdata/pmetric/pmetricotlp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

// Stored is the body of an answer to a request that is stored, but for some data
// points (ExportMetricsServiceResponse). text is why.
func Stored(isJSON bool, rejected int, text string) ([]byte, error) {
	if rejected == 0 && text == "" { // then the field is to be left out
		if isJSON {
			return []byte("{}"), nil
		}
		return nil, nil
	}
	r := pmetricotlp.NewExportResponse()
	r.PartialSuccess().SetRejectedDataPoints(int64(rejected))
	r.PartialSuccess().SetErrorMessage(strings.ToValidUTF8(text, "?"))
	if isJSON {
		return r.MarshalJSON()
	}
	return r.MarshalProto()
}

// Failed is the body of an answer to a request of which nothing is acknowledged
// (google.rpc.Status). again: it may be sent again.
func Failed(isJSON, again bool, text string) ([]byte, error) {
	code := codes.InvalidArgument
	if again {
		code = codes.Unavailable
	}
	s := status.New(code, strings.ToValidUTF8(text, "?")).Proto()
	if isJSON {
		return protojson.Marshal(s)
	}
	return proto.Marshal(s)
}

package ship

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/thanos-io/objstore"
	"github.com/thanos-io/objstore/providers/s3"
	"go.yaml.in/yaml/v2"
)

// bucketConfig is Thanos' object storage configuration. Config is read by the
// type's own provider, so that nothing here ever prints a secret of it.
type bucketConfig struct {
	Type   string `yaml:"type"`
	Config any    `yaml:"config"`
	Prefix string `yaml:"prefix"`
}

// ErrBucketType is wrapped when a configuration names a type that is not known.
var ErrBucketType = errors.New("unknown bucket type")

// OpenBucket opens the bucket that a configuration in Thanos' format describes:
// `type: FILESYSTEM|S3`, `config:` as Thanos documents it for that type, and
// `prefix:`, the folder inside the bucket. It does not reach for the network.
// A nil log and a nil reg are fine.
func OpenBucket(conf []byte, log *slog.Logger, reg prometheus.Registerer) (objstore.Bucket, error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	var c bucketConfig
	if err := yaml.UnmarshalStrict(conf, &c); err != nil {
		return nil, fmt.Errorf("read bucket configuration: %w", err)
	}
	inner, err := yaml.Marshal(c.Config)
	if err != nil {
		return nil, fmt.Errorf("read bucket configuration: %w", err)
	}

	var bucket objstore.Bucket
	switch strings.ToUpper(c.Type) {
	case string(objstore.FILESYSTEM):
		bucket, err = openFolder(inner)
	case string(objstore.S3):
		bucket, err = s3.NewBucket(kitLog{log}, inner, "muster", nil)
	case "":
		return nil, fmt.Errorf("%w: no type given; known are FILESYSTEM and S3", ErrBucketType)
	default:
		return nil, fmt.Errorf("%w %q; known are FILESYSTEM and S3", ErrBucketType, c.Type)
	}
	if err != nil {
		return nil, fmt.Errorf("open %s bucket: %w", strings.ToUpper(c.Type), err)
	}
	bucket = objstore.NewPrefixedBucket(bucket, c.Prefix)
	if reg != nil {
		reg = prometheus.WrapRegistererWithPrefix("thanos_", reg) // the names that Thanos' dashboards use
	}
	return objstore.WrapWithMetrics(bucket, reg, bucket.Name()), nil
}

// kitLog hands the providers' key-value lines to slog.
type kitLog struct{ log *slog.Logger }

// Log implements go-kit's Logger.
func (k kitLog) Log(keyvals ...any) error {
	level, msg := slog.LevelInfo, "bucket"
	var args []any
	for i := 0; i+1 < len(keyvals); i += 2 {
		key, val := fmt.Sprint(keyvals[i]), keyvals[i+1]
		switch key {
		case "msg":
			msg = fmt.Sprint(val)
		case "level":
			if err := level.UnmarshalText(fmt.Append(nil, val)); err != nil {
				args = append(args, key, val)
			}
		default:
			args = append(args, key, val)
		}
	}
	k.log.Log(context.Background(), level, msg, args...)
	return nil
}

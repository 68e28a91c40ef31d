package ship

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/thanos-io/objstore"
)

func TestOpenBucketReadsThanosConfiguration(t *testing.T) {
	dir := t.TempDir()
	for name, c := range map[string]struct{ conf, provider, err string }{
		"filesystem":      {"type: FILESYSTEM\nconfig: {directory: " + dir + "}", "FILESYSTEM", ""},
		"lower case":      {"type: filesystem\nconfig: {directory: " + dir + "}\nprefix: a/b", "FILESYSTEM", ""},
		"s3":              {"type: S3\nconfig: {bucket: b, endpoint: 's3.example.org:9000', region: r, access_key: k, secret_key: s, insecure: true, signature_version2: false, http_config: {idle_conn_timeout: 90s}}\nprefix: x", "S3", ""},
		"s3 no endpoint":  {"type: S3\nconfig: {bucket: b}", "", "endpoint"},
		"s3 half a key":   {"type: S3\nconfig: {bucket: b, endpoint: e, access_key: k}", "", "secret_key"},
		"s3 unknown":      {"type: S3\nconfig: {bucket: b, endpoint: e, acces_key: k}", "", "acces_key"},
		"no directory":    {"type: FILESYSTEM\nconfig: {}", "", "directory"},
		"unknown option":  {"type: FILESYSTEM\nconfig: {directory: d, dir: e}", "", "dir"},
		"another type":    {"type: GCS\nconfig: {bucket: b}", "", `"GCS"; known are FILESYSTEM and S3`},
		"no type":         {"config: {bucket: b}", "", "known are FILESYSTEM and S3"},
		"unknown section": {"type: S3\nconfg: {}", "", "confg"},
		"not yaml":        {"{", "", "read bucket configuration"},
		"empty":           {"", "", "no type given"},
	} {
		t.Run(name, func(t *testing.T) {
			b, err := OpenBucket([]byte(c.conf), nil, prometheus.NewRegistry())
			if c.err != "" {
				if err == nil || !strings.Contains(err.Error(), c.err) {
					t.Fatalf("error %v, want %s", err, c.err)
				}
				return
			}
			must(t, err)
			if string(b.Provider()) != c.provider {
				t.Errorf("provider %s", b.Provider())
			}
			must(t, b.Close())
		})
	}
	if _, err := OpenBucket([]byte("type: GCS"), nil, nil); !errors.Is(err, ErrBucketType) {
		t.Errorf("error %v", err)
	}
}

func TestBucketPrefixAndMetrics(t *testing.T) {
	dir, reg := t.TempDir(), prometheus.NewRegistry()
	b, err := OpenBucket([]byte("type: FILESYSTEM\nconfig: {directory: "+dir+"}\nprefix: a/b"), nil, reg)
	must(t, err)
	must(t, b.Upload(t.Context(), "x/y", strings.NewReader("hello")))
	data, err := os.ReadFile(filepath.Join(dir, "a", "b", "x", "y"))
	must(t, err)
	if string(data) != "hello" {
		t.Errorf("object %q", data)
	}
	got, err := reg.Gather()
	must(t, err)
	for _, mf := range got {
		if mf.GetName() == "thanos_objstore_bucket_last_successful_upload_time" && mf.GetMetric()[0].GetGauge().GetValue() > 0 {
			return
		}
	}
	t.Error("no thanos_objstore_bucket_last_successful_upload_time")
}

// TestFolderObjectIsWholeOrAbsent ends uploads early: the object is not there,
// or has its old content, and nothing is left behind.
func TestFolderObjectIsWholeOrAbsent(t *testing.T) {
	dir := t.TempDir()
	b, err := OpenBucket([]byte("type: FILESYSTEM\nconfig: {directory: "+dir+"}"), nil, nil)
	must(t, err)
	broken := errors.New("broken")
	upload := func(ctx context.Context) error {
		return b.Upload(ctx, "x/y", &failing{strings.NewReader("hal"), broken})
	}
	if err := upload(t.Context()); !errors.Is(err, broken) {
		t.Fatalf("error %v", err)
	}
	if ok, err := b.Exists(t.Context(), "x/y"); ok || err != nil {
		t.Fatalf("half an object is there: %v", err)
	}
	must(t, b.Upload(t.Context(), "x/y", strings.NewReader("whole")))
	if err := upload(t.Context()); !errors.Is(err, broken) {
		t.Fatalf("error %v", err)
	}
	data, err := os.ReadFile(filepath.Join(dir, "x", "y"))
	must(t, err)
	if string(data) != "whole" {
		t.Errorf("object %q", data)
	}
	var names []string
	must(t, b.Iter(t.Context(), "", func(name string) error { names = append(names, name); return nil }, objstore.WithRecursiveIter()))
	if len(names) != 1 {
		t.Errorf("left behind: %v", names)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := upload(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
}

type failing struct {
	r   *strings.Reader
	err error
}

func (f *failing) Read(p []byte) (int, error) {
	if f.r.Len() == 0 {
		return 0, f.err
	}
	return f.r.Read(p)
}

func TestProvidersSpeakThroughSlog(t *testing.T) {
	var out bytes.Buffer
	k := kitLog{slog.New(slog.NewTextHandler(&out, nil))}
	must(t, k.Log("level", "warn", "msg", "slow", "op", "get", "odd"))
	if got := out.String(); !strings.Contains(got, "level=WARN msg=slow op=get") {
		t.Errorf("line %q", got)
	}
}

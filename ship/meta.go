package ship

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	promtsdb "github.com/prometheus/prometheus/tsdb"
)

// Meta is a block's meta.json as it stands in the bucket: Prometheus' own, and
// the section by which Thanos' Store Gateway and Compactor know the block.
type Meta struct {
	promtsdb.BlockMeta
	Thanos Thanos `json:"thanos"`
}

// Thanos is the `thanos` section. Its version is left out, which reads as 1, as
// a Thanos receiver leaves it out.
type Thanos struct {
	// Labels are the external labels: the only thing that tells tenants and
	// replicas apart in the bucket. Never empty.
	Labels     map[string]string `json:"labels"`
	Downsample Downsample        `json:"downsample"`
	Source     string            `json:"source"`
	// SegmentFiles are the names of the files in chunks, for old readers.
	SegmentFiles []string `json:"segment_files,omitempty"`
	// Files are sorted by path; meta.json is among them, without a size.
	Files []File `json:"files,omitempty"`
	// UploadTime is when the upload began, UTC: readers measure their
	// consistency delay from it.
	UploadTime time.Time `json:"upload_time"`
}

// Downsample has the resolution in milliseconds; a receiver's blocks are raw: 0.
type Downsample struct {
	Resolution int64 `json:"resolution"`
}

// File is one object of a block.
type File struct {
	RelPath   string `json:"rel_path"`
	SizeBytes int64  `json:"size_bytes,omitempty"`
}

const (
	metaName   = "meta.json"
	indexName  = "index"
	chunksName = "chunks"

	// maxMeta bounds what is read as a meta.json, in bytes; real ones have 2 KB.
	maxMeta = 8 << 20
)

var (
	errNoLabels   = errors.New("no external labels")
	errDiffers    = errors.New("the bucket holds another block of this name")
	errIncomplete = errors.New("the bucket's block is not whole")
)

// readLocal reads the meta.json that the TSDB wrote.
func readLocal(dir string) (promtsdb.BlockMeta, error) {
	var m promtsdb.BlockMeta
	data, err := os.ReadFile(filepath.Join(dir, metaName))
	if err != nil {
		return m, err
	}
	if err := json.Unmarshal(data, &m); err != nil {
		return m, fmt.Errorf("read %s: %w", metaName, err)
	}
	if m.Version != 1 {
		return m, fmt.Errorf("read %s: unknown version %d", metaName, m.Version)
	}
	if m.ULID.String() != filepath.Base(dir) {
		return m, fmt.Errorf("%s is of block %s", metaName, m.ULID)
	}
	return m, nil
}

// metaOf describes the block in dir for the bucket.
func metaOf(dir string, local promtsdb.BlockMeta, external labels.Labels, now time.Time) (Meta, error) {
	if external.IsEmpty() {
		return Meta{}, errNoLabels // Thanos refuses such blocks, and could not tell whose they are
	}
	m := Meta{BlockMeta: local, Thanos: Thanos{
		Labels:     external.Map(),
		Source:     "receive",
		UploadTime: now.UTC(),
	}}
	// What the TSDB may still note about its local copy; tombstones stay here.
	m.Compaction.Failed, m.Compaction.Deletable, m.Stats.NumTombstones = false, false, 0
	for name, value := range m.Thanos.Labels {
		if value == "" {
			return Meta{}, fmt.Errorf("%w: %s is empty", errNoLabels, name)
		}
	}
	segments, err := os.ReadDir(filepath.Join(dir, chunksName))
	if err != nil {
		return Meta{}, err
	}
	for _, s := range segments {
		info, err := s.Info()
		if err != nil {
			return Meta{}, err
		}
		m.Thanos.SegmentFiles = append(m.Thanos.SegmentFiles, s.Name())
		m.Thanos.Files = append(m.Thanos.Files, File{path.Join(chunksName, s.Name()), info.Size()})
	}
	index, err := os.Stat(filepath.Join(dir, indexName))
	if err != nil {
		return Meta{}, err
	}
	m.Thanos.Files = append(m.Thanos.Files, File{indexName, index.Size()}, File{RelPath: metaName})
	slices.SortFunc(m.Thanos.Files, func(a, b File) int { return strings.Compare(a.RelPath, b.RelPath) })
	return m, nil
}

func (m Meta) encode() ([]byte, error) {
	data, err := json.MarshalIndent(m, "", "\t")
	if err != nil {
		return nil, err
	}
	return append(data, '\n'), nil
}

func decodeMeta(r io.Reader) (Meta, error) {
	var m Meta
	data, err := io.ReadAll(io.LimitReader(r, maxMeta+1))
	if err != nil {
		return m, err
	}
	if len(data) > maxMeta {
		return m, fmt.Errorf("%s has more than %d bytes", metaName, maxMeta)
	}
	err = json.Unmarshal(data, &m)
	return m, err
}

// sameBlock reports whether two descriptions differ in nothing but their
// upload time: an earlier life of this node uploaded the same files.
func sameBlock(a, b Meta) (bool, error) {
	a.Thanos.UploadTime, b.Thanos.UploadTime = time.Time{}, time.Time{}
	x, err := a.encode()
	if err != nil {
		return false, err
	}
	y, err := b.encode()
	if err != nil {
		return false, err
	}
	return bytes.Equal(x, y), nil
}

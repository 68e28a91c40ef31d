package tsdb

import (
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"

	"github.com/oklog/ulid/v2"
	promtsdb "github.com/prometheus/prometheus/tsdb"
)

// A Block is a finished block's directory.
type Block struct {
	ULID ulid.ULID
	Dir  string
	// MinTime and MaxTime are Unix milliseconds; MaxTime is exclusive.
	MinTime, MaxTime int64
	Samples          uint64
}

// A File of a block, by its slashed path inside of the block's directory.
type File struct {
	Path string
	Size int64
	// Checksum is the CRC-32C of the whole file.
	Checksum uint32
}

const blockMeta = "meta.json"

// blockFile is what the files of a block are called. Whatever else a giver may
// name is refused: the path goes to the disk.
var blockFile = regexp.MustCompile(`^(meta\.json|index|tombstones|chunks/[0-9]{6})$`)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// BlocksIn lists the finished blocks of a tenant's directory, by ULID. Other
// entries are passed over; a directory that is not there has none.
func BlocksIn(dir string) ([]Block, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list blocks: %w", err)
	}
	var out []Block
	for _, entry := range entries {
		id, err := ulid.ParseStrict(entry.Name())
		if err != nil || !entry.IsDir() {
			continue
		}
		b, err := readBlock(filepath.Join(dir, entry.Name()), id)
		if errors.Is(err, fs.ErrNotExist) {
			continue // being deleted
		}
		if err != nil {
			return nil, fmt.Errorf("block %s: %w", id, err)
		}
		out = append(out, b)
	}
	slices.SortFunc(out, func(a, b Block) int { return a.ULID.Compare(b.ULID) })
	return out, nil
}

func readBlock(dir string, id ulid.ULID) (Block, error) {
	raw, err := os.ReadFile(filepath.Join(dir, blockMeta))
	if err != nil {
		return Block{}, err
	}
	var m promtsdb.BlockMeta
	if err := json.Unmarshal(raw, &m); err != nil {
		return Block{}, fmt.Errorf("read %s: %w", blockMeta, err)
	}
	if m.ULID != id || m.Version != 1 {
		return Block{}, fmt.Errorf("%s is of block %s, version %d", blockMeta, m.ULID, m.Version)
	}
	return Block{ULID: id, Dir: dir, MinTime: m.MinTime, MaxTime: m.MaxTime, Samples: m.Stats.NumSamples}, nil
}

// Files lists what the block consists of, without checksums: chunks first,
// meta.json last.
func (b Block) Files() ([]File, error) {
	names := []string{"index", "tombstones", blockMeta}
	chunks, err := os.ReadDir(filepath.Join(b.Dir, "chunks"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("list chunks: %w", err)
	}
	for i, c := range chunks {
		names = slices.Insert(names, i, path.Join("chunks", c.Name()))
	}
	var out []File
	for _, name := range names {
		info, err := os.Stat(filepath.Join(b.Dir, filepath.FromSlash(name)))
		if errors.Is(err, fs.ErrNotExist) && name == "tombstones" {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("look at %s: %w", name, err)
		}
		if !blockFile.MatchString(name) {
			return nil, fmt.Errorf("%s is no file of a block", name)
		}
		out = append(out, File{Path: name, Size: info.Size()})
	}
	return out, nil
}

// Checksum reads a file of the block and gives its CRC-32C.
func (b Block) Checksum(f File) (uint32, error) {
	return checksumOf(filepath.Join(b.Dir, filepath.FromSlash(f.Path)), f.Size)
}

func checksumOf(path string, size int64) (uint32, error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	h := crc32.New(castagnoli)
	n, err := io.Copy(h, f)
	if err == nil && n != size {
		err = fmt.Errorf("%s has %d bytes, not %d", filepath.Base(path), n, size)
	}
	return h.Sum32(), err
}

// Checksum is the CRC-32C of a piece of a file.
func Checksum(piece []byte) uint32 { return crc32.Checksum(piece, castagnoli) }

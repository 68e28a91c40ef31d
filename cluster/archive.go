package cluster

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"
)

// An archive is a snapshot of the control state in one file, for people to keep:
//
//	muster snapshot 1\n         what it is, and the format's number
//	{"cluster":…}\n             the header, one line of JSON
//	records                     as State.WriteTo writes them, header.bytes long
//	sha256 <64 hex digits>\n    of everything before it
//
// `head -2 F` and `tail -1 F` show all but the records. It holds hashes of
// tokens, never a token or a private key: the state has none.

const (
	archiveMagic  = "muster snapshot "
	archiveFormat = 1
	// maxArchiveHeader bounds the header's line in bytes.
	maxArchiveHeader = 64 << 10
	trailerBytes     = len("sha256 ") + 2*sha256.Size + 1
)

// ErrArchive means that a file is no whole snapshot: it is something else, cut
// short, damaged, or written by a newer version.
var ErrArchive = errors.New("not a whole muster snapshot")

// ArchiveHeader says what an archive is a snapshot of.
type ArchiveHeader struct {
	Cluster     string `json:"cluster"`
	ID          string `json:"id"`
	Incarnation uint64 `json:"incarnation"`
	// Index and Term are Raft's on the node that wrote it, Revision the state's.
	Index    uint64    `json:"index"`
	Term     uint64    `json:"term"`
	Revision uint64    `json:"revision"`
	Time     time.Time `json:"time"`
	// Version of muster, and the node that wrote it.
	Version string `json:"version"`
	Node    string `json:"node"`
	// Local: no leader has confirmed that nothing newer was committed.
	Local bool `json:"local"`
	// Bytes is the length of the records.
	Bytes int64 `json:"bytes"`
}

// Archive is a snapshot that was read to its end and found whole.
type Archive struct {
	Header ArchiveHeader
	State  *State
	// SHA256 of everything before the last line, and the size of the whole, bytes.
	SHA256 string
	Size   int64
}

// WriteArchive writes an archive of the state; the header's fields about the
// state are filled in.
func (s *State) WriteArchive(w io.Writer, h ArchiveHeader) (ArchiveHeader, error) {
	if s.cluster == nil {
		return h, fmt.Errorf("write a snapshot: %w", ErrNoCluster)
	}
	var err error
	if h.Bytes, err = s.WriteTo(io.Discard); err != nil {
		return h, err
	}
	h.Cluster, h.ID, h.Incarnation, h.Revision = s.cluster.GetName(), s.cluster.GetId(), s.cluster.GetIncarnation(), s.revision
	h.Time = h.Time.UTC().Truncate(time.Second)
	head, err := json.Marshal(h)
	if err != nil {
		return h, fmt.Errorf("write a snapshot: %w", err)
	}
	sum := sha256.New()
	out := io.MultiWriter(w, sum)
	if _, err := fmt.Fprintf(out, "%s%d\n%s\n", archiveMagic, archiveFormat, head); err != nil {
		return h, fmt.Errorf("write a snapshot: %w", err)
	}
	if _, err := s.WriteTo(out); err != nil {
		return h, err
	}
	if _, err := fmt.Fprintf(w, "sha256 %x\n", sum.Sum(nil)); err != nil {
		return h, fmt.Errorf("write a snapshot: %w", err)
	}
	return h, nil
}

// ReadArchive reads an archive to its end, decodes all of it and compares its
// checksum. What is not whole makes ErrArchive, with the reason.
func ReadArchive(r io.Reader) (*Archive, error) {
	rd := &archiveReader{in: bufio.NewReaderSize(r, maxArchiveHeader), sum: sha256.New()}
	header, err := rd.header()
	if err != nil {
		return nil, err
	}
	st, decodeErr, err := rd.records(header.Bytes)
	if err != nil {
		return nil, err
	}
	sum, err := rd.trailer()
	if err != nil {
		return nil, err
	}
	// The checksum comes first: it tells damage from a version that cannot read it.
	if decodeErr != nil {
		return nil, spoilt("its records cannot be read, though they are as they were written: %v", decodeErr)
	}
	c := st.Cluster()
	if c == nil || c.GetId() != header.ID || c.GetIncarnation() != header.Incarnation || st.Revision() != header.Revision {
		return nil, spoilt("its header tells of another state than its records")
	}
	return &Archive{Header: header, State: st, SHA256: sum, Size: rd.size + int64(trailerBytes)}, nil
}

func spoilt(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrArchive, fmt.Sprintf(format, args...))
}

// archiveReader counts and sums what it reads.
type archiveReader struct {
	in   *bufio.Reader
	sum  io.Writer
	size int64
}

func (rd *archiveReader) header() (h ArchiveHeader, err error) {
	first, err := rd.line()
	number, ok := bytes.CutPrefix(first, []byte(archiveMagic))
	switch {
	case !ok:
		return h, spoilt("it does not begin with %q", archiveMagic)
	case err != nil:
		return h, err
	case string(number) != fmt.Sprint(archiveFormat):
		return h, spoilt("it has the format %s, this version reads %d: use the version that wrote it, or a newer one", quote(string(number)), archiveFormat)
	}
	text, err := rd.line()
	if err != nil {
		return h, err
	}
	if err := json.Unmarshal(text, &h); err != nil {
		return h, spoilt("its header is no JSON: %v", err)
	}
	if h.Bytes < 0 {
		return h, spoilt("its header says %d bytes of records", h.Bytes)
	}
	return h, nil
}

func (rd *archiveReader) line() ([]byte, error) {
	text, err := rd.in.ReadSlice('\n')
	rd.size += int64(len(text))
	_, _ = rd.sum.Write(text)
	switch {
	case errors.Is(err, bufio.ErrBufferFull):
		return text, spoilt("a line of more than %d bytes", maxArchiveHeader)
	case errors.Is(err, io.EOF):
		return text, spoilt("it is cut short after %d bytes", rd.size)
	case err != nil:
		return text, fmt.Errorf("read the snapshot: %w", err)
	}
	return bytes.Clone(text[:len(text)-1]), nil
}

// records decodes the state. What is wrong with the records themselves is
// decodeErr: the caller looks at the checksum before it believes it.
func (rd *archiveReader) records(size int64) (st *State, decodeErr, err error) {
	body := &io.LimitedReader{R: rd.in, N: size}
	all := io.TeeReader(body, rd.sum)
	st, decodeErr = ReadState(all)
	if _, err := io.Copy(io.Discard, all); err != nil {
		return nil, nil, fmt.Errorf("read the snapshot: %w", err)
	}
	rd.size += size - body.N
	if body.N > 0 {
		return nil, nil, spoilt("it is cut short after %d bytes, %d are missing", rd.size, body.N+int64(trailerBytes))
	}
	return st, decodeErr, nil
}

func (rd *archiveReader) trailer() (string, error) {
	want := fmt.Sprintf("sha256 %x\n", rd.sum.(interface{ Sum([]byte) []byte }).Sum(nil))
	got, err := io.ReadAll(io.LimitReader(rd.in, int64(trailerBytes)+1))
	switch {
	case err != nil:
		return "", fmt.Errorf("read the snapshot: %w", err)
	case len(got) < trailerBytes:
		return "", spoilt("it is cut short after %d bytes: its checksum is missing", rd.size+int64(len(got)))
	case len(got) > trailerBytes:
		return "", spoilt("it goes on after its checksum")
	case string(got) != want:
		return "", spoilt("it is damaged: its checksum is %s, and its last line says %s", want[7:trailerBytes-1], quote(string(got[7:trailerBytes-1])))
	}
	sum := got[len("sha256 ") : trailerBytes-1]
	if _, err := hex.DecodeString(string(sum)); err != nil {
		return "", spoilt("its checksum is none")
	}
	return string(sum), nil
}

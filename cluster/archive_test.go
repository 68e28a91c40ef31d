package cluster

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
	"time"
)

func archived(t testing.TB, s *State) []byte {
	t.Helper()
	var out bytes.Buffer
	_, err := s.WriteArchive(&out, ArchiveHeader{
		Index: s.Revision() + 2, Term: 7, Time: time.UnixMilli(testTime), Version: "1.2.3", Node: "n1",
	})
	if err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// TestArchiveFormatIsKept reads an archive of an earlier build. With
// MUSTER_UPDATE_GOLDEN=1 the file is written anew, for a new format.
func TestArchiveFormatIsKept(t *testing.T) {
	file := filepath.Join("testdata", "archive.snapshot")
	if os.Getenv("MUSTER_UPDATE_GOLDEN") != "" {
		if err := os.WriteFile(file, archived(t, smallStory(t)), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	golden, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	a, err := ReadArchive(iotest.OneByteReader(bytes.NewReader(golden)))
	if err != nil {
		t.Fatalf("this version does not read what an earlier one wrote: %v", err)
	}
	s := a.State
	want := ArchiveHeader{
		Cluster: "test", ID: s.Cluster().GetId(), Incarnation: 1, Index: s.Revision() + 2, Term: 7, Revision: s.Revision(),
		Time: time.UnixMilli(testTime).UTC(), Version: "1.2.3", Node: "n1", Bytes: int64(len(encoded(t, s))),
	}
	if a.Header != want || a.Size != int64(len(golden)) || s.Tenant("a") == nil {
		t.Errorf("read %+v of %d bytes, want %+v of %d", a.Header, a.Size, want, len(golden))
	}
	if !bytes.Equal(archived(t, s), golden) {
		t.Error("the same state is archived otherwise")
	}
}

func TestADamagedArchiveIsRefused(t *testing.T) {
	whole := archived(t, smallStory(t))
	lines := bytes.SplitN(whole, []byte("\n"), 3)
	for name, c := range map[string]struct {
		text []byte
		want string
	}{
		"nothing":           {nil, "does not begin with"},
		"something else":    {[]byte("[{\"labels\":{}}]\n"), "does not begin with"},
		"a newer format":    {append([]byte("muster snapshot 2\n"), lines[1]...), `format "2", this version reads 1`},
		"no header":         {[]byte("muster snapshot 1\n"), "cut short after 18 bytes"},
		"no JSON":           {[]byte("muster snapshot 1\nhello\n"), "header is no JSON"},
		"an endless line":   {append([]byte("muster snapshot 1\n"), bytes.Repeat([]byte("x"), 100<<10)...), "a line of more than"},
		"negative":          {[]byte("muster snapshot 1\n{\"bytes\":-1}\n"), "-1 bytes"},
		"cut in the middle": {whole[:len(whole)/2], "cut short"},
		"without checksum":  {whole[:len(whole)-trailerBytes], "its checksum is missing"},
		"half a checksum":   {whole[:len(whole)-20], "its checksum is missing"},
		"something behind":  {append(bytes.Clone(whole), '\n'), "goes on after its checksum"},
		"another header":    {bytes.Replace(whole, []byte(`"term":7`), []byte(`"term":8`), 1), "damaged"},
	} {
		_, err := ReadArchive(bytes.NewReader(c.text))
		if !errors.Is(err, ErrArchive) || !strings.Contains(fmt.Sprint(err), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
	for cut := range whole {
		if _, err := ReadArchive(bytes.NewReader(whole[:cut])); !errors.Is(err, ErrArchive) {
			t.Fatalf("cut at %d: %v", cut, err)
		}
	}
	for i := range whole {
		b := bytes.Clone(whole)
		b[i] ^= 0x10
		if _, err := ReadArchive(bytes.NewReader(b)); !errors.Is(err, ErrArchive) {
			t.Fatalf("byte %d of %d changed: %v", i, len(b), err)
		}
	}
}

// An archive goes to where secrets may not: it names tokens, by their hashes.
func TestAnArchiveHoldsNoSecret(t *testing.T) {
	b := newBed(t)
	n := b.add("n1")
	made := n.init(InitRequest{Name: "test", ReplicationFactor: 1, Slots: 2})
	var out bytes.Buffer
	if _, err := n.node.WriteSnapshot(n.ctx(), &out, false); err != nil {
		t.Fatal(err)
	}
	for _, token := range made.JoinTokens {
		if secret := token[strings.LastIndexByte(token, '.')+1:]; bytes.Contains(out.Bytes(), []byte(secret)) {
			t.Error("the archive holds the secret of a token")
		}
	}
	keys, err := filepath.Glob(filepath.Join(n.dir, "pki", "*.key"))
	if err != nil || len(keys) != 2 {
		t.Fatalf("keys %v: %v", keys, err)
	}
	for _, file := range keys {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(out.Bytes(), bytes.TrimSpace(text)) || bytes.Contains(out.Bytes(), []byte("PRIVATE KEY")) {
			t.Errorf("the archive holds %s", file)
		}
	}
}

func TestAnArchiveIsSavedWholeOrNotAtAll(t *testing.T) {
	s := smallStory(t)
	whole := archived(t, s)
	path := filepath.Join(t.TempDir(), "a.snapshot")
	if err := os.WriteFile(path, []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	broken := func(w io.Writer) error { _, err := w.Write(whole[:len(whole)-3]); return err }
	if _, err := SaveArchive(path, broken); !errors.Is(err, ErrArchive) {
		t.Fatalf("half an archive was saved: %v", err)
	}
	if text, _ := os.ReadFile(path); string(text) != "old" {
		t.Fatalf("a failed save replaced the file by %q", text)
	}
	a, err := SaveArchive(path, func(w io.Writer) error { _, err := w.Write(whole); return err })
	if err != nil || a.State.Hash() != s.Hash() {
		t.Fatal(err)
	}
	st, err := os.Stat(path)
	if err != nil || st.Mode().Perm() != 0o600 || st.Size() != a.Size {
		t.Fatalf("%v %v", st, err)
	}
	if left, _ := os.ReadDir(filepath.Dir(path)); len(left) != 1 {
		t.Fatalf("files are left: %v", left)
	}
}

func FuzzReadArchive(f *testing.F) {
	whole := archived(f, smallStory(f))
	f.Add(whole)
	f.Add(whole[:len(whole)/2])
	f.Add([]byte("muster snapshot 1\n{\"bytes\":9223372036854775807}\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		a, err := ReadArchive(bytes.NewReader(text))
		if err != nil {
			if !errors.Is(err, ErrArchive) {
				t.Fatalf("an error of another kind: %v", err)
			}
			return
		}
		if a.Size != int64(len(text)) || a.State.Cluster() == nil {
			t.Fatalf("read %+v of %d bytes", a.Header, len(text))
		}
	})
}

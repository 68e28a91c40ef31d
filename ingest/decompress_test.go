package ingest

import (
	"bytes"
	stdgzip "compress/gzip"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"testing"
	"testing/iotest"

	gosnappy "github.com/golang/snappy"
	"github.com/klauspost/compress/snappy"
	"github.com/klauspost/compress/zstd"

	"github.com/muster-metrics/muster/ingest/wire"
)

// doorman is an Ingester as far as bodies need one.
func doorman(limit int64) *Ingester {
	cfg := Config{MaxDecodedBytes: limit, InflightBytes: 4 * limit}.withDefaults()
	return &Ingester{cfg: cfg, admission: newAdmission(cfg)}
}

// decoded is what a body becomes; nothing of it may stay admitted or pooled wrongly.
func decoded(t testing.TB, i *Ingester, c compression, raw []byte) ([]byte, error) {
	t.Helper()
	body := newBuffer(len(raw))
	body.b = append(body.b, raw...)
	defer body.release()
	plain, release, err := i.decode(context.Background(), tenantID, message{compression: c}, body)
	defer func() {
		release()
		if inside, _ := i.admission.decoded.held(); inside != 0 {
			t.Fatal("a body that is done with is still admitted")
		}
	}()
	if err != nil {
		if plain != nil {
			t.Fatal("a body and an error")
		}
		return nil, err
	}
	defer plain.release()
	return bytes.Clone(plain.b), nil
}

// streamed is zstd as it comes of a stream: the frame does not tell its length.
func streamed(t testing.TB, raw []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := zstd.NewWriter(&b, zstd.WithEncoderConcurrency(1))
	if err != nil {
		t.Fatal(err)
	}
	for part := range slices.Chunk(raw, 10_000) {
		if _, err := w.Write(part); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestBodiesComeOutAsTheyWentIn(t *testing.T) {
	i := doorman(4 << 20)
	noise := make([]byte, 100_000)
	for k := range noise {
		noise[k] = byte(rand.Uint32())
	}
	real, _ := realistic(0, 2000, now()).Marshal()
	for name, raw := range map[string][]byte{
		"nothing": {}, "a byte": {7}, "noise": noise, "a request": real, "zeros": make([]byte, 1<<20),
	} {
		for kind, c := range map[string]struct {
			compression compression
			body        []byte
		}{
			"snappy":             {snappyBlock, snappy.Encode(nil, raw)},
			"snappy, unnamed":    {unnamed, snappy.Encode(nil, raw)},
			"identity":           {identity, raw},
			"gzip":               {gzipped, gzipOf(t, raw)},
			"zstd":               {zstandard, zstdOf(t, raw)},
			"zstd of a stream":   {zstandard, streamed(t, raw)},
			"two members":        {gzipped, append(gzipOf(t, raw[:len(raw)/2]), gzipOf(t, raw[len(raw)/2:])...)},
			"two frames of zstd": {zstandard, append(zstdOf(t, raw[:len(raw)/2]), zstdOf(t, raw[len(raw)/2:])...)},
		} {
			got, err := decoded(t, i, c.compression, c.body)
			if name == "zeros" && c.compression >= gzipped && errors.As(err, new(refusal)) {
				continue // no request is so even
			}
			if err != nil || !bytes.Equal(got, raw) {
				t.Errorf("%s in %s: %d bytes of %d, %v", name, kind, len(got), len(raw), err)
			}
		}
	}
}

func TestWhatABodySaysOfItselfIsNotBelieved(t *testing.T) {
	const limit = 1 << 20
	i := doorman(limit)
	plain := bytes.Repeat([]byte("up 1\n"), 1000)
	short := gzipOf(t, plain) // says that it is a byte long
	binary.LittleEndian.PutUint32(short[len(short)-4:], 1)
	long := gzipOf(t, plain)
	binary.LittleEndian.PutUint32(long[len(long)-4:], 1<<32-1)
	for name, c := range map[string]struct {
		compression compression
		body        []byte
		status      int
	}{
		"snappy beyond the limit":       {snappyBlock, binary.AppendUvarint(nil, limit+1), http.StatusRequestEntityTooLarge},
		"snappy of nothing":             {snappyBlock, binary.AppendUvarint(nil, limit), http.StatusBadRequest},
		"snappy, cut":                   {snappyBlock, snappy.Encode(nil, plain)[:20], http.StatusBadRequest},
		"no snappy":                     {snappyBlock, bytes.Repeat([]byte{0xff}, 20), http.StatusBadRequest},
		"zstd beyond the limit":         {zstandard, zstdOf(t, make([]byte, limit+1)), http.StatusRequestEntityTooLarge},
		"zstd of a stream, beyond it":   {zstandard, streamed(t, make([]byte, limit+1)), http.StatusRequestEntityTooLarge},
		"zstd of too even a body":       {zstandard, zstdOf(t, make([]byte, limit)), http.StatusRequestEntityTooLarge},
		"zstd, cut":                     {zstandard, zstdOf(t, plain)[:20], http.StatusBadRequest},
		"no zstd":                       {zstandard, plain, http.StatusBadRequest},
		"zstd with a gigabyte's window": {zstandard, []byte{0x28, 0xb5, 0x2f, 0xfd, 0, 20 << 3, 1, 0, 0}, http.StatusBadRequest},
		"gzip beyond the limit":         {gzipped, gzipOf(t, make([]byte, limit+1)), http.StatusRequestEntityTooLarge},
		"gzip that says less":           {gzipped, short, http.StatusBadRequest},
		"gzip that says more":           {gzipped, long, http.StatusBadRequest},
		"gzip, cut":                     {gzipped, gzipOf(t, plain)[:20], http.StatusBadRequest},
		"no gzip":                       {gzipped, plain, http.StatusBadRequest},
		"plain beyond the limit":        {identity, make([]byte, limit+1), http.StatusRequestEntityTooLarge},
	} {
		_, err := decoded(t, i, c.compression, c.body)
		if err == nil || statusOf(err) != c.status {
			t.Errorf("%s: %v, want %d", name, err, c.status)
		}
	}
}

// A body is admitted for what it becomes and not for the most that it may: or a
// few small ones would keep all others waiting.
func TestABodyTakesTheRoomThatItNeeds(t *testing.T) {
	raw, _ := realistic(0, 2000, now()).Marshal()
	for name, c := range map[string]struct {
		compression compression
		body        []byte
	}{"snappy": {snappyBlock, snappy.Encode(nil, raw)}, "zstd": {zstandard, zstdOf(t, raw)}, "gzip": {gzipped, gzipOf(t, raw)}} {
		_, room, _, err := roomFor(c.compression, c.body, 128<<20)
		if err != nil || room != int64(len(raw)) {
			t.Errorf("%s: room for %d bytes, want %d: %v", name, room, len(raw), err)
		}
	}
}

func BenchmarkDecode(b *testing.B) {
	poison.Store(false)
	defer poison.Store(true)
	raw, _ := realistic(0, 2000, now()).Marshal()
	i := doorman(16 << 20)
	for _, c := range []struct {
		name        string
		compression compression
		body        []byte
	}{{"snappy", snappyBlock, snappy.Encode(nil, raw)}, {"zstd", zstandard, zstdOf(b, raw)}, {"gzip", gzipped, gzipOf(b, raw)}} {
		b.Run(c.name, func(b *testing.B) {
			body := &buffer{b: c.body}
			body.refs.Store(1)
			b.ReportAllocs()
			for b.Loop() {
				plain, release, err := i.decode(context.Background(), tenantID, message{compression: c.compression}, body)
				if err != nil {
					b.Fatal(err)
				}
				plain.release()
				release()
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/2000, "ns/sample")
		})
	}
}

// agree holds a decoder against another one: within the limits, what the other
// takes is taken with the same bytes, and nothing else is taken.
func agree(t *testing.T, c compression, raw []byte, oracle func() ([]byte, error), more bool) {
	const limit = 1 << 20
	got, err := decoded(t, doorman(limit), c, raw)
	want, oracleErr := oracle()
	var r refusal
	switch {
	case errors.As(err, &r) && r.status == http.StatusRequestEntityTooLarge:
		if most := min(limit, len(raw)*maxRatio+smallBody); oracleErr == nil && len(want) <= most && int64(len(want)) <= limit && c != snappyBlock {
			t.Fatalf("%d bytes of %d are too many: %v", len(want), most, err)
		}
	case err != nil && !errors.Is(err, wire.ErrFraming):
		t.Fatalf("an unexpected error: %v", err)
	case err != nil && oracleErr == nil:
		t.Fatalf("refused %q, which becomes %d bytes: %v", raw, len(want), err)
	case err == nil && errors.Is(oracleErr, errCut) && bytes.Equal(got, want):
	case err == nil && oracleErr != nil && !more:
		t.Fatalf("took %q: %v", raw, oracleErr)
	case err == nil && oracleErr == nil && !bytes.Equal(got, want):
		t.Fatalf("got %q, want %q", got, want)
	case len(got) > limit:
		t.Fatalf("%d bytes", len(got))
	}
}

func FuzzSnappy(f *testing.F) {
	f.Add(snappy.Encode(nil, []byte("hello hello hello hello")))
	f.Add(binary.AppendUvarint(nil, 1<<20))
	f.Fuzz(func(t *testing.T, raw []byte) {
		// Our decoder knows S2, too, which says in fewer bytes what snappy can say.
		agree(t, snappyBlock, raw, func() ([]byte, error) {
			if n, err := gosnappy.DecodedLen(raw); err != nil || n > 4<<20 {
				return nil, errors.Join(err, io.ErrShortBuffer)
			}
			return gosnappy.Decode(nil, raw)
		}, true)
	})
}

func FuzzGunzip(f *testing.F) {
	f.Add(gzipOf(f, []byte("hello hello hello hello")))
	f.Add(append(gzipOf(f, nil), gzipOf(f, make([]byte, 100_000))...))
	f.Fuzz(func(t *testing.T, raw []byte) {
		agree(t, gzipped, raw, func() ([]byte, error) {
			r, err := stdgzip.NewReader(bytes.NewReader(raw))
			if err != nil {
				return nil, err
			}
			b, err := io.ReadAll(io.LimitReader(r, 4<<20))
			if errors.Is(err, io.ErrUnexpectedEOF) {
				return b, errCut
			}
			return b, err
		}, false)
	})
}

// errCut is an end too early. Ours does not see it where all
// that is cut is the header of one member more.
var errCut = errors.New("cut")

// FuzzZstd holds decoding at once, into room that is told, against decoding as
// a stream, a byte at a time.
func FuzzZstd(f *testing.F) {
	f.Add(zstdOf(f, []byte("hello hello hello hello")))
	f.Add(streamed(f, bytes.Repeat([]byte("abc"), 100_000)))
	f.Add(append(zstdOf(f, []byte("a")), zstdOf(f, make([]byte, 100_000))...))
	f.Fuzz(func(t *testing.T, raw []byte) {
		agree(t, zstandard, raw, func() ([]byte, error) {
			r, err := zstd.NewReader(iotest.OneByteReader(bytes.NewReader(raw)), zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxWindow))
			if err != nil {
				return nil, err
			}
			defer r.Close()
			return io.ReadAll(io.LimitReader(r, 4<<20))
		}, false)
	})
}

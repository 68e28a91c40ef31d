package cluster

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	iradix "github.com/hashicorp/go-immutable-radix/v2"

	"github.com/muster-metrics/muster/proto/clusterpb"
)

// ReadState reads a snapshot to its end and answers with the state it holds
// once its footer proves that it is whole. A snapshot that is not makes
// ErrSnapshot.
func ReadState(r io.Reader) (*State, error) {
	in := bufio.NewReaderSize(r, 64<<10)
	rd := newRestorer()
	var buf bytes.Buffer
	for !rd.done {
		rec, err := readRecord(in, &buf)
		if err != nil {
			return nil, fmt.Errorf("read record %d: %w", rd.records, err)
		}
		if err := rd.add(rec); err != nil {
			return nil, fmt.Errorf("read record %d: %w", rd.records, err)
		}
		rd.records++
	}
	if _, err := in.ReadByte(); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("something after the footer: %w", ErrSnapshot)
	}
	return &rd.next, nil
}

// readRecord reads one record through buf. Memory grows with what really
// comes, not with the length that a damaged stream may claim.
func readRecord(in *bufio.Reader, buf *bytes.Buffer) (*clusterpb.Record, error) {
	size, err := binary.ReadUvarint(in)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSnapshot, err)
	}
	if size > maxRecord {
		return nil, fmt.Errorf("%d bytes: %w", size, ErrSnapshot)
	}
	buf.Reset()
	if _, err := io.CopyN(buf, in, int64(size)); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSnapshot, err)
	}
	rec := &clusterpb.Record{}
	if err := rec.UnmarshalVT(buf.Bytes()); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSnapshot, err)
	}
	return rec, nil
}

// restorer puts the records of a snapshot together. Its trees grow in place,
// each in one transaction.
type restorer struct {
	next    State
	records uint64
	begun   bool
	done    bool

	tenants      *iradix.Txn[*clusterpb.Tenant]
	tenantHashes *iradix.Txn[string]
	tombstones   *iradix.Txn[*clusterpb.Tombstone]
	tokens       *iradix.Txn[*clusterpb.Token]
	tokenHashes  *iradix.Txn[string]
	events       *iradix.Txn[*clusterpb.Event]
	requests     *iradix.Txn[*clusterpb.Request]
	answered     *iradix.Txn[*clusterpb.Request]
}

func newRestorer() *restorer {
	s := EmptyState()
	return &restorer{
		next:         *s,
		tenants:      s.tenants.Txn(),
		tenantHashes: s.tenantHashes.Txn(),
		tombstones:   s.tombstones.Txn(),
		tokens:       s.tokens.Txn(),
		tokenHashes:  s.tokenHashes.Txn(),
		events:       s.events.Txn(),
		requests:     s.requests.Txn(),
		answered:     s.answered.Txn(),
	}
}

func (rd *restorer) add(rec *clusterpb.Record) error {
	h := rec.GetHeader()
	if (h != nil) == rd.begun {
		return damaged("a header belongs before all else, once")
	}
	if h != nil {
		rd.begun, rd.next.revision = true, h.GetRevision()
		if h.GetFormat() != snapshotFormat {
			return damaged("format %d, this version reads %d", h.GetFormat(), snapshotFormat)
		}
		return nil
	}
	switch of := rec.GetOf().(type) {
	case *clusterpb.Record_Cluster:
		return single(rd, &rd.next.cluster, kindCluster, of.Cluster)
	case *clusterpb.Record_Settings:
		return single(rd, &rd.next.settings, kindSettings, of.Settings)
	case *clusterpb.Record_Member:
		return sorted(rd, &rd.next.members, kindMember, of.Member, func(a, b *clusterpb.Member) bool { return a.GetName() < b.GetName() })
	case *clusterpb.Record_Removed:
		return sorted(rd, &rd.next.removed, kindRemoved, of.Removed, func(a, b *clusterpb.RemovedMember) bool { return a.GetName() < b.GetName() })
	case *clusterpb.Record_Store:
		return sorted(rd, &rd.next.stores, kindStore, of.Store, func(a, b *clusterpb.Store) bool { return a.GetNumber() < b.GetNumber() })
	case *clusterpb.Record_Ring:
		return rd.addRing(of.Ring)
	case *clusterpb.Record_Tenant:
		return rd.addTenant(of.Tenant)
	case *clusterpb.Record_Tombstone:
		for _, hash := range of.Tombstone.GetTokenHashes() {
			rd.tenantHashes.Insert(hash, of.Tombstone.GetTenant())
		}
		return keyed(rd, rd.tombstones, kindTombstone, []byte(of.Tombstone.GetTenant()), of.Tombstone)
	case *clusterpb.Record_Token:
		rd.tokenHashes.Insert(of.Token.GetHash(), of.Token.GetId())
		return keyed(rd, rd.tokens, kindToken, []byte(of.Token.GetId()), of.Token)
	case *clusterpb.Record_Event:
		rd.next.eventBytes += of.Event.SizeVT()
		return keyed(rd, rd.events, kindEvent, numberKey(of.Event.GetRevision()), of.Event)
	case *clusterpb.Record_Request:
		rd.answered.Insert(numberKey(of.Request.GetRevision()), of.Request)
		return keyed(rd, rd.requests, kindRequest, of.Request.GetId(), of.Request)
	case *clusterpb.Record_Footer:
		return rd.finish(of.Footer)
	default:
		return damaged("a record of a kind that this version does not know")
	}
}

func damaged(format string, args ...any) error {
	return fmt.Errorf(format+": %w", append(args, ErrSnapshot)...)
}

// single takes an object of which there is one.
func single[M object](rd *restorer, to *M, k kind, m M) error {
	var none M
	if m == none || *to != none {
		return damaged("two records, or an empty one, of kind %d", k)
	}
	rd.next.sum += sumOf(k, m)
	*to = m
	return nil
}

// sorted takes an object of a list, in its order.
func sorted[M object](rd *restorer, list *[]M, k kind, m M, less func(a, b M) bool) error {
	var none M
	if m == none || len(*list) > 0 && !less((*list)[len(*list)-1], m) {
		return damaged("records of kind %d are not in order", k)
	}
	rd.next.sum += sumOf(k, m)
	*list = append(*list, m)
	return nil
}

// keyed takes an object of a tree.
func keyed[M object](rd *restorer, tree *iradix.Txn[M], k kind, key []byte, m M) error {
	var none M
	if m == none || len(key) == 0 {
		return damaged("a record of kind %d has no key", k)
	}
	if _, had := tree.Insert(key, m); had {
		return damaged("two records of kind %d have one key", k)
	}
	rd.next.sum += sumOf(k, m)
	return nil
}

func (rd *restorer) addTenant(t *clusterpb.Tenant) error {
	for _, tok := range t.GetTokens() {
		rd.tenantHashes.Insert(tok.GetHash(), t.GetId())
	}
	return keyed(rd, rd.tenants, kindTenant, []byte(t.GetId()), t)
}

func (rd *restorer) addRing(rec *clusterpb.Ring) error {
	r, err := ringOf(rec)
	if err != nil {
		return damaged("%v", err)
	}
	if n := len(rd.next.rings); n > 0 && rd.next.rings[n-1].Spec.GetId() >= rec.GetId() {
		return damaged("rings are not in order")
	}
	rd.next.rings = append(rd.next.rings, r)
	rd.next.sum += r.sum
	return nil
}

// finish proves that the snapshot is whole.
func (rd *restorer) finish(f *clusterpb.SnapshotFooter) error {
	s := &rd.next
	s.tenants, s.tenantHashes = rd.tenants.CommitOnly(), rd.tenantHashes.CommitOnly()
	s.tombstones = rd.tombstones.CommitOnly()
	s.tokens, s.tokenHashes = rd.tokens.CommitOnly(), rd.tokenHashes.CommitOnly()
	s.events = rd.events.CommitOnly()
	s.requests, s.answered = rd.requests.CommitOnly(), rd.answered.CommitOnly()
	s.claims = claimsOf(s.rings)
	rd.done = true
	switch {
	case f.GetRecords() != rd.records:
		return damaged("%d records, the footer counts %d", rd.records, f.GetRecords())
	case f.GetHash() != s.Hash():
		return damaged("the records have the hash %x, the footer says %x", s.Hash(), f.GetHash())
	case (s.cluster == nil) != (s.settings == nil):
		return damaged("a cluster needs settings")
	case s.requests.Len() != s.answered.Len():
		return damaged("two requests were answered at one revision")
	}
	return nil
}

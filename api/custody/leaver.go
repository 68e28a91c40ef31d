package custody

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/oklog/ulid/v2"
	"google.golang.org/grpc"

	"github.com/muster-metrics/muster/cluster"
	"github.com/muster-metrics/muster/proto/clusterpb"
	"github.com/muster-metrics/muster/ring"
	"github.com/muster-metrics/muster/tsdb"
)

// Data is what this node has of its own. *tsdb.DB is one.
type Data interface {
	OnDisk() ([]tsdb.Key, error)
	Empty(ctx context.Context, key tsdb.Key) ([]tsdb.Block, error)
	Path(key tsdb.Key) string
	Status(key tsdb.Key) tsdb.Status
}

// Bucket is where blocks are shipped to.
type Bucket interface {
	// Ship uploads what is not there yet, and verifies it.
	Ship(ctx context.Context) error
	// Safe says that a block was found in the bucket, whole.
	Safe(key tsdb.Key, block ulid.ULID) bool
}

// LeaverConfig is what a node needs to empty itself. All but Bucket, BucketIsEnough,
// Every, Patience, Now and Log are needed.
type LeaverConfig struct {
	Node    string
	Store   [16]byte
	State   func() *cluster.State
	Health  func() []*clusterpb.Health
	Propose Propose
	// Dial gives the long-lived connection to a member's door.
	Dial func(ctx context.Context, node string) (*grpc.ClientConn, error)
	// Announced is the newest revision below which no share is being stored.
	Announced func() uint64
	// Current says that the state was confirmed since the start.
	Current func() bool
	Data    Data
	Adopted *tsdb.Adopted
	// Bucket is nil where nothing is shipped.
	Bucket Bucket
	// BucketIsEnough says that the operator wants no custodian where the bucket
	// has all. Nil: one is wanted.
	BucketIsEnough func(*clusterpb.Member) bool
	// Every is how often it looks whether there is something to do. Default 1s.
	Every time.Duration
	// Patience is how long a custodian may be silent before another one is
	// named. Default 5m.
	Patience time.Duration
	Now      func() time.Time
	Log      *slog.Logger
}

// Leaver empties this node once its removal has begun and it holds nothing any
// more: until then, and on a node that stays, it does nothing.
type Leaver struct {
	cfg LeaverConfig
	log *slog.Logger

	// Of the goroutine that runs it.
	cut    map[tsdb.Key]bool // emptied since version
	since  uint64            // Member.version that cut belongs to
	silent map[uint32]time.Time

	mu      sync.Mutex
	emptied bool
	text    string // what is being done, and how far it is
	stage   string // of this look
	failure failure
}

// failure is why a stage does not get on. It stays in view while the stages
// before it are looked at again.
type failure struct {
	stage string
	err   string // "": none
	since time.Time
}

// NewLeaver makes a leaver that does nothing yet. A nil logger works.
func NewLeaver(cfg LeaverConfig) *Leaver {
	if cfg.Every <= 0 {
		cfg.Every = time.Second
	}
	if cfg.Patience <= 0 {
		cfg.Patience = 5 * time.Minute
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.BucketIsEnough == nil {
		cfg.BucketIsEnough = func(*clusterpb.Member) bool { return false }
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Leaver{cfg: cfg, log: cfg.Log, cut: map[tsdb.Key]bool{}, silent: map[uint32]time.Time{}}
}

// Run looks for something to do until ctx ends.
func (l *Leaver) Run(ctx context.Context) error {
	tick := time.NewTicker(l.cfg.Every)
	defer tick.Stop()
	for {
		l.look(ctx)
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// Progress says whether this node's store is empty, and how far it is, or why it
// does not get on and since when. Empty on a node that stays.
func (l *Leaver) Progress() (emptied bool, text string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if f := l.failure; f.err != "" {
		return l.emptied, fmt.Sprintf("%s: %s (failing since %s)", f.stage, f.err, f.since.UTC().Format(time.RFC3339))
	}
	return l.emptied, l.text
}

// say tells what is being done; that ends the failure of the stage before it.
func (l *Leaver) say(stage, format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.stage == l.failure.stage && stage != l.stage {
		l.failure = failure{}
	}
	l.stage, l.text = stage, stage+": "+fmt.Sprintf(format, args...)
}

func (l *Leaver) fail(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.failure.err != err.Error() {
		l.log.Warn("removal does not get on", "stage", l.stage, "err", err)
	}
	if l.failure.err == "" || l.failure.stage != l.stage {
		l.failure = failure{stage: l.stage, since: l.cfg.Now()}
	}
	l.failure.err = err.Error()
}

// show says in a word that nothing fails.
func (l *Leaver) show(emptied bool, text string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.emptied, l.text, l.failure = emptied, text, failure{}
}

// waiting is why there is nothing to do yet: no failure.
type waiting string

func (w waiting) Error() string { return string(w) }

// look does what there is to do.
func (l *Leaver) look(ctx context.Context) {
	st := l.cfg.State()
	m, own := st.Member(l.cfg.Node), st.StoreByID(l.cfg.Store[:])
	if m.GetState() != clusterpb.MemberState_REMOVING || own == nil || m.GetStore() != own.GetNumber() {
		l.reset()
		return
	}
	if l.since != m.GetVersion() {
		clear(l.cut)
		l.since = m.GetVersion()
	}
	l.mu.Lock()
	l.stage = ""
	l.mu.Unlock()
	err := l.empty(ctx, st, m, own)
	var wait waiting
	switch {
	case err == nil:
		l.done(l.cfg.State(), own)
	case ctx.Err() != nil:
	case errors.As(err, &wait):
		l.show(false, "waiting "+string(wait))
	default:
		l.fail(err)
	}
}

// reset forgets: this node stays.
func (l *Leaver) reset() {
	clear(l.cut)
	clear(l.silent)
	l.since = 0
	l.show(false, "")
}

// done says so where the state does.
func (l *Leaver) done(st *cluster.State, own *clusterpb.Store) {
	now := st.Store(ring.Store(own.GetNumber()))
	if now.GetEmptied() == 0 {
		return // it was told, and is not seen here yet
	}
	var kept string
	for _, c := range now.GetCustodians() {
		kept += ", kept by " + st.Store(ring.Store(c)).GetNode()
	}
	if now.GetInBucket() {
		kept += ", all blocks are in the bucket"
	}
	l.show(true, fmt.Sprintf("emptied at revision %d%s", now.GetEmptied(), kept))
}

// empty goes through the steps; each asks what is done already. A crash after
// any of them: the next process goes through all again. See doc.go.
func (l *Leaver) empty(ctx context.Context, st *cluster.State, m *clusterpb.Member, own *clusterpb.Store) error {
	if own.GetEmptied() != 0 {
		return nil
	}
	if err := l.drained(st, ring.Store(own.GetNumber())); err != nil {
		return err
	}
	parts, err := l.cutAll(ctx, st)
	if err != nil {
		return err
	}
	shipped, err := l.ship(ctx, parts)
	if err != nil {
		return err
	}
	if !shipped || !l.cfg.BucketIsEnough(m) {
		if err := l.giveTo(ctx, own, inRetention(st, parts, l.cfg.Now())); err != nil {
			return err
		}
	}
	for _, kept := range st.InCustody(ring.Store(own.GetNumber())) {
		if err := l.giveOn(ctx, kept, own); err != nil {
			return err
		}
	}
	l.say("telling the leader", "store %d is empty", own.GetNumber())
	return propose(ctx, l.cfg.Propose, l.cfg.State(), &clusterpb.Command{Change: &clusterpb.Command_EmptyStore{
		EmptyStore: &clusterpb.EmptyStore{Store: own.GetNumber(), InBucket: shipped},
	}})
}

// drained wants no sample to be able to come any more: no slot is here, every
// epoch in which one was is closed, and no share that was admitted before this
// node knew that is still being stored.
func (l *Leaver) drained(st *cluster.State, own ring.Store) error {
	switch d := st.Duties(own); {
	case !l.cfg.Current():
		return waiting("for a leader to confirm the state after the start")
	case d.Slots > 0:
		return waiting(fmt.Sprintf("for %d slots of ring %s to move away", d.Slots, d.Ring))
	case d.Open > 0:
		return waiting(fmt.Sprintf("for %d ended epochs of ring %s to be closed", d.Open, d.Ring))
	case l.cfg.Announced() < st.Revision():
		return waiting(fmt.Sprintf("for appends that began before revision %d", st.Revision()))
	}
	return nil
}

// propose makes a change; a refusal is an error.
func propose(ctx context.Context, p Propose, st *cluster.State, cmd *clusterpb.Command) error {
	cmd.Actor = "node"
	answer, err := p(ctx, cmd)
	if err != nil {
		return err
	}
	if r := answer.GetRefusal(); r != nil {
		return fmt.Errorf("refused at revision %d: %s", st.Revision(), r.GetMessage())
	}
	return nil
}

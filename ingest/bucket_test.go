package ingest

import (
	"math"
	"testing"
	"time"
)

func TestABucketLetsItsRateThrough(t *testing.T) {
	var b bucket
	now := time.Unix(1000, 0)
	passed := 0.0
	for range 1000 { // ten seconds in hundredths; each brings 30 where 10 may come
		b.look(now, 1000, 500)
		if !b.empty() {
			b.level -= 30
			passed += 30
		}
		now = now.Add(10 * time.Millisecond)
	}
	if passed < 10_400 || passed > 10_600 { // ten seconds, and what it held
		t.Errorf("%v passed, want 10500", passed)
	}
}

func TestARequestLargerThanTheBucketIsLateAndNotRefusedForEver(t *testing.T) {
	var b bucket
	now := time.Unix(1000, 0)
	b.look(now, 100, 50)
	b.level -= 1050
	if b.look(now, 100, 50); !b.empty() || b.wait(100) != 10*time.Second {
		t.Fatalf("wait %v, want 10s", b.wait(100))
	}
	if b.look(now.Add(10*time.Second+time.Millisecond), 100, 50); b.empty() {
		t.Fatal("still empty when its debt is paid")
	}
}

func TestABucketIsAsFullAsBeforeWhenItsRoomChanges(t *testing.T) {
	var b bucket
	now := time.Unix(1000, 0)
	b.look(now, 10, 100)
	b.level -= 50
	if b.look(now, 5, 40); b.level != 20 {
		t.Errorf("level %v, want 20: half of it", b.level)
	}
	b.level -= 60
	if b.look(now, 50, 400); b.level != -40 {
		t.Errorf("level %v, want -40: what it owes is not less for a larger part", b.level)
	}
	if b.wait(0) != math.MaxInt64 {
		t.Error("a bucket without a rate is waited for")
	}
}

func TestAMeterTellsTheLastSecond(t *testing.T) {
	var m meter
	at := func(ms int64) time.Time { return time.UnixMilli(1_000_000 + ms) }
	m.add(at(0), 10)
	m.add(at(900), 20)
	if got := m.rate(at(950)); got != 30 { // before the first whole second
		t.Errorf("%v, want 30", got)
	}
	if got := m.rate(at(1100)); got != 30 {
		t.Errorf("%v, want 30", got)
	}
	m.add(at(1200), 100)
	if got := m.rate(at(2000)); got != 100 {
		t.Errorf("%v, want 100", got)
	}
	if got := m.rate(at(4000)); got != 25 {
		t.Errorf("%v after two silent seconds, want 25", got)
	}
	if got := m.rate(at(3_600_000)); got != 0 && got > 1e-9 {
		t.Errorf("%v after an hour, want nothing", got)
	}
}

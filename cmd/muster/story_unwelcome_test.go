package main

import (
	"fmt"
	"testing"
	"time"

	"github.com/golang/snappy"
	"github.com/stretchr/testify/require"
)

// TestAWriteCreatesNoTenantThatIsNotWanted: a sender of a tenant that was
// deleted, or is one too many, hears that at once, and drops what it has; where
// tenants are not created by writing at all, that of any unknown one.
func TestAWriteCreatesNoTenantThatIsNotWanted(t *testing.T) {
	t.Parallel()
	beds(t, aWriteCreatesNoTenantThatIsNotWanted)
}

func aWriteCreatesNoTenantThatIsNotWanted(t *testing.T, b *bed) {
	last := len(b.nodes) - 1
	now := time.Now().UnixMilli()
	raw := func() []byte { now++; return snappy.Encode(nil, body(batch("m", 3, now)...)) }
	forbidden := func(tenant, says string) {
		t.Helper()
		status, text := b.post(last, tenant, raw())
		require.Equal(t, 403, status, text)
		require.Contains(t, text, says)
		_, _, code := b.try(0, "tenant", "show", tenant)
		require.NotZero(t, code, "%s is there", tenant)
	}
	b.write(0, "gone", batch("m", 3, now)...)
	b.cli(0, "tenant", "delete", "gone")
	forbidden("gone", "was deleted")
	forbidden("gone", "was deleted") // nor does asking again help

	b.cli(0, "settings", "set", "max_tenants=1")
	b.write(0, "last", batch("m", 3, now)...)
	forbidden("one-too-many", "max_tenants")

	b.cli(0, "settings", "set", "max_tenants=100", "auto_create_tenants=false")
	b.eventually("the setting is seen", func() error {
		if status, text := b.post(last, "stranger", raw()); status != 403 {
			return fmt.Errorf("%d %s", status, text)
		}
		return nil
	})
	forbidden("stranger", "does not exist")
	b.write(0, "last", batch("m", 3, now+1)...) // who is there goes on

	b.cli(0, "tenant", "create", "gone")
	b.write(0, "gone", batch("m", 3, now+2)...)
}

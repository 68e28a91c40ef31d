package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/urfave/cli/v2"
)

// A change carries an id, by which the cluster makes it once however often it
// is asked for. So where an answer is lost the command asks again by itself, and
// where its time is over before it knows, it says the id.

// repeatPause is how long a command waits before it asks again.
const repeatPause = 500 * time.Millisecond

func requestIDFlag() cli.Flag {
	return &cli.StringFlag{Name: "request-id", Usage: "repeat the change that had this id: it is made once", DefaultText: "made up"}
}

// idOf is the id of the command's change; "" where its kind has none.
func idOf(c *cli.Context) string {
	switch {
	case named(c.Command.Flags, "request-id") == nil:
		return ""
	case c.String("request-id") != "":
		return c.String("request-id")
	default:
		return newRequestID()
	}
}

func newRequestID() string {
	id := make([]byte, 16)
	_, _ = rand.Read(id) // never fails
	return hex.EncodeToString(id)
}

// repeat sends a change until it is known what became of it, or ctx ends.
func (cl *client) repeat(ctx context.Context, r request) ([]byte, http.Header, error) {
	uncertain := false // an earlier try may have been made
	for {
		var body bytes.Buffer
		header, err := cl.copy(ctx, r, &body)
		lost := isLost(err)
		switch {
		case err == nil, !lost && (!uncertain || !isAway(err)):
			return body.Bytes(), header, err
		case lost:
			uncertain = true
		}
		select {
		case <-time.After(repeatPause):
		case <-ctx.Done():
			return nil, nil, unknownOutcome(r.id, err)
		}
	}
}

// isLost says whether a request may have been carried out although its answer
// is an error.
func isLost(err error) bool {
	if err == nil {
		return false
	}
	var f *failure
	if !errors.As(err, &f) {
		return true // the answer broke off
	}
	return f.sent || f.status != 0 && f.RequestID != ""
}

// isAway says whether nobody has looked at the request: no server, no leader.
func isAway(err error) bool {
	var f *failure
	return !errors.As(err, &f) || f.status == 0 || f.status == http.StatusServiceUnavailable
}

func unknownOutcome(id string, cause error) error {
	f := &failure{
		Code: exitFailed, RequestID: id, cause: cause,
		Text: fmt.Sprintf("unknown outcome: the change may have been made (%v)", cause),
		Next: fmt.Sprintf("repeat the same command with --request-id %s within ten minutes: it is made once, and says what became of it", id),
	}
	if away := (*failure)(nil); errors.As(cause, &away) {
		f.Node, f.Since = away.Node, away.Since
	}
	return f
}

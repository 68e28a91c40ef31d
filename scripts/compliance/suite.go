package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

const (
	// suitePackage holds the suite's tests.
	suitePackage = "github.com/prometheus/complicance/remotewrite2"
	// receiver is the node's name in the suite's configuration, and so the last
	// part of the names of those tests that ask it something.
	receiver = "muster"
	// leastAnswers is how many there were when this was written: a suite that asks
	// nothing is no proof.
	leastAnswers = 205
	// promised is how the suite ends the name of a request that has a twin of the
	// same content: this one may get nothing but 204.
	promised = "_returns_204"
)

// event is a line of go test -json.
type event struct {
	Action, Test, Output string
}

var (
	codeLine = regexp.MustCompile(`Response code from "` + receiver + `": (\d+)`)
	bodyLine = regexp.MustCompile(`Response body from "` + receiver + `": (".*")`)
)

// runSuite runs the suite's tests and gives the answers there were and the tests
// that failed.
func runSuite(ctx context.Context, dir, config string) ([]answer, []string, error) {
	cmd := exec.CommandContext(ctx, "go", "test", "-json", "-count=1", "-vet=off", "-timeout=10m", suitePackage)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOFLAGS=-mod=readonly", "GOWORK=off", "PROMETHEUS_RW2_COMPLIANCE_CONFIG_FILE="+config)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, runErr := cmd.Output()
	codes, bodies, names, failed, err := readEvents(out)
	if err != nil {
		return nil, nil, err
	}
	if len(codes) == 0 {
		return nil, nil, fmt.Errorf("run the suite: %w: %s%s", runErr, stderr.Bytes(), out)
	}
	if runErr != nil && len(failed) == 0 {
		failed = append(failed, fmt.Sprintf("as a whole: %v %s", runErr, stderr.Bytes()))
	}
	var answers []answer
	for _, test := range names {
		answers = append(answers, answer{test: test, code: codes[test], want: wanted(test, codes), body: bodies[test]})
	}
	return answers, failed, nil
}

// readEvents reads what go test says.
func readEvents(out []byte) (codes map[string]int, bodies map[string]string, names, failed []string, err error) {
	codes, bodies = map[string]int{}, map[string]string{}
	lines := bufio.NewScanner(bytes.NewReader(out))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var e event
		if json.Unmarshal(lines.Bytes(), &e) != nil {
			continue // the go command's own
		}
		test := strings.TrimSuffix(e.Test, "/"+receiver)
		if e.Action == "fail" && e.Test != test {
			failed = append(failed, test)
		}
		if m := codeLine.FindStringSubmatch(e.Output); m != nil {
			codes[test], _ = strconv.Atoi(m[1])
			names = append(names, test)
		}
		if m := bodyLine.FindStringSubmatch(e.Output); m != nil {
			bodies[test], _ = strconv.Unquote(m[1])
		}
	}
	slices.Sort(failed)
	return codes, bodies, names, failed, lines.Err()
}

// singles are the requests that have no twin, and are not to be refused with 400.
var singles = map[string][]int{
	"TestBadContentTypes/application_json":            {415},
	"TestBadContentTypes/image_png":                   {415},
	"TestBadContentEncodings/gzip":                    {415},
	"TestBadContentEncodings/deflate":                 {415},
	"TestRW1BasicCompatibility":                       {204},
	"TestEdgeCaseCombinations/metadata_without_data":  {204},
	"TestEdgeCaseCombinations/mixed_timestamp_data":   {204},
	"TestEdgeCaseCombinations/exemplars_without_data": {204, 400}, // drafts of the specification differ
	"TestExemplarValidation/exemplar_with_valid_name": {204},
	"TestMetadataValidation/metadata_with_valid_name": {204},
}

// wanted is how a request of the suite is to be answered.
func wanted(test string, codes map[string]int) []int {
	if want, ok := singles[test]; ok {
		return want
	}
	if strings.HasSuffix(test, promised) {
		return []int{204}
	}
	twin := test + promised
	if base, ok := strings.CutSuffix(test, "/#00"); ok { // both have no name
		twin = base + "/" + promised
	}
	if _, ok := codes[twin]; ok {
		return []int{204}
	}
	return []int{400}
}

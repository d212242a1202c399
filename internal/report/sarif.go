package report

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strings"

	"forkproof/internal/finding"
)

// The part of SARIF 2.1.0 (OASIS standard of 27 March 2020) that a finding
// needs; the names are the standard's.
type (
	sarifLog struct {
		Schema  string     `json:"$schema"`
		Version string     `json:"version"`
		Runs    []sarifRun `json:"runs"`
	}
	sarifRun struct {
		Tool        sarifTool         `json:"tool"`
		Invocations []sarifInvocation `json:"invocations"`
		Results     []sarifResult     `json:"results"`
		ColumnKind  string            `json:"columnKind"`
		Properties  map[string]any    `json:"properties,omitempty"`
	}
	sarifTool struct {
		Driver sarifDriver `json:"driver"`
	}
	sarifDriver struct {
		Name    string      `json:"name"`
		Version string      `json:"version,omitempty"`
		Rules   []sarifRule `json:"rules"`
	}
	sarifRule struct {
		ID                   string         `json:"id"`
		ShortDescription     sarifText      `json:"shortDescription"`
		FullDescription      sarifText      `json:"fullDescription"`
		Help                 sarifText      `json:"help"`
		DefaultConfiguration sarifConfig    `json:"defaultConfiguration"`
		Properties           map[string]any `json:"properties,omitempty"`
	}
	sarifConfig struct {
		Level string `json:"level"`
	}
	sarifText struct {
		Text     string `json:"text"`
		Markdown string `json:"markdown,omitempty"`
	}
	sarifInvocation struct {
		ExecutionSuccessful        bool                `json:"executionSuccessful"`
		StartTimeUTC               string              `json:"startTimeUtc,omitempty"`
		ToolExecutionNotifications []sarifNotification `json:"toolExecutionNotifications,omitempty"`
	}
	sarifNotification struct {
		Level   string    `json:"level"`
		Message sarifText `json:"message"`
	}
	sarifResult struct {
		RuleID              string            `json:"ruleId"`
		RuleIndex           int               `json:"ruleIndex"`
		Level               string            `json:"level"`
		Message             sarifText         `json:"message"`
		Locations           []sarifLocation   `json:"locations,omitempty"`
		RelatedLocations    []sarifLocation   `json:"relatedLocations,omitempty"`
		Stacks              []sarifStack      `json:"stacks,omitempty"`
		PartialFingerprints map[string]string `json:"partialFingerprints"`
		OccurrenceCount     int               `json:"occurrenceCount"`
		Properties          map[string]any    `json:"properties"`
	}
	sarifLocation struct {
		ID               *int           `json:"id,omitempty"`
		Message          *sarifText     `json:"message,omitempty"`
		PhysicalLocation *sarifPhysical `json:"physicalLocation,omitempty"`
		LogicalLocations []sarifLogical `json:"logicalLocations,omitempty"`
	}
	sarifPhysical struct {
		ArtifactLocation sarifArtifact `json:"artifactLocation"`
		Region           *sarifRegion  `json:"region,omitempty"`
	}
	sarifArtifact struct {
		URI string `json:"uri"`
	}
	sarifRegion struct {
		StartLine   int `json:"startLine"`
		StartColumn int `json:"startColumn,omitempty"`
		EndLine     int `json:"endLine,omitempty"`
		EndColumn   int `json:"endColumn,omitempty"`
	}
	sarifLogical struct {
		Name               string `json:"name"`
		FullyQualifiedName string `json:"fullyQualifiedName,omitempty"`
		Kind               string `json:"kind"`
	}
	sarifStack struct {
		Message sarifText    `json:"message"`
		Frames  []sarifFrame `json:"frames"`
	}
	sarifFrame struct {
		Location sarifLocation `json:"location"`
		Module   string        `json:"module,omitempty"`
	}
)

// maxFrames bounds a stack in SARIF, which viewers draw whole.
const maxFrames = 64

// SARIF writes the findings as a SARIF 2.1.0 log, for code scanning services and
// editors. Findings that differ in the process alone are one result, which
// counts them: a service would otherwise show the same place many times.
func SARIF(w io.Writer, doc *finding.Document, _ Options) error {
	run := sarifRun{
		Tool:        sarifTool{sarifDriver{Name: "forkproof", Version: doc.Version, Rules: sarifRules()}},
		Invocations: []sarifInvocation{{ExecutionSuccessful: true, StartTimeUTC: doc.Time}},
		Results:     []sarifResult{}, ColumnKind: "unicodeCodePoints",
		Properties: map[string]any{"command": doc.Command, "verdict": verdict(doc).Word, "processes": len(doc.Targets), "host": map[string]any{
			"name": doc.Host.Name, "kernel": doc.Host.Kernel, "arch": doc.Host.Arch,
		}},
	}
	for _, n := range notes(doc) {
		in := &run.Invocations[0]
		in.ToolExecutionNotifications = append(in.ToolExecutionNotifications, sarifNotification{"note", sarifText{Text: n}})
	}
	for _, b := range blocks(doc) {
		i := slices.IndexFunc(run.Tool.Driver.Rules, func(r sarifRule) bool { return r.ID == string(b.Rule) })
		if i < 0 {
			i = len(run.Tool.Driver.Rules)
			text := sarifText{Text: string(b.Rule)}
			run.Tool.Driver.Rules = append(run.Tool.Driver.Rules, sarifRule{ID: string(b.Rule), ShortDescription: text, FullDescription: text, Help: text, DefaultConfiguration: sarifConfig{level(b.Severity)}})
		}
		run.Results = append(run.Results, sarifResultOf(doc, b, i))
	}
	return encode(w, sarifLog{Schema: "https://json.schemastore.org/sarif-2.1.0.json", Version: "2.1.0", Runs: []sarifRun{run}})
}

func sarifRules() []sarifRule {
	var out []sarifRule
	for _, r := range Rules() {
		do := strings.Join(r.Do, " ")
		md := fmt.Sprintf("%s\n\n**How it is known:** %s\n\n**What to do:**\n\n", r.Means, r.How)
		for _, d := range r.Do {
			md += "- " + d + "\n"
		}
		out = append(out, sarifRule{
			ID: string(r.Name), ShortDescription: sarifText{Text: sentence(r.Short)}, FullDescription: sarifText{Text: r.Means},
			Help:                 sarifText{Text: r.Means + " How it is known: " + r.How + " What to do: " + do, Markdown: md},
			DefaultConfiguration: sarifConfig{level(r.Severity)},
			Properties:           map[string]any{"tags": []string{"fork", "concurrency"}, "confidence": r.Confidence},
		})
	}
	return out
}

func sentence(phrase string) string {
	if phrase == "" {
		return "."
	}
	return strings.ToUpper(phrase[:1]) + phrase[1:] + "."
}

func level(s finding.Severity) string {
	switch s {
	case finding.Critical:
		return "error"
	case finding.Warning:
		return "warning"
	}
	return "note"
}

func sarifResultOf(doc *finding.Document, b *block, index int) sarifResult {
	text := b.title() + ". " + prose(b.Why)
	r := sarifResult{
		RuleID: string(b.Rule), RuleIndex: index, Level: level(b.Severity), Message: sarifText{Text: text},
		PartialFingerprints: map[string]string{"forkproof/v1": fingerprint(b)}, OccurrenceCount: len(b.all),
		Properties: map[string]any{"confidence": b.Confidence.String(), "severity": b.Severity.String()},
	}
	put := func(key string, v any, is bool) {
		if is {
			r.Properties[key] = v
		}
	}
	put("pid", b.PID, b.PID != 0)
	put("tid", b.TID, b.TID != 0)
	put("pids", b.pids, len(b.pids) > 1)
	put("others", b.Others, len(b.Others) > 0)
	put("lock", b.Lock, b.Lock != nil)
	put("evidence", b.Evidence, len(b.Evidence) > 0)
	put("remedy", b.remedy(), len(b.Remedy) > 0)
	put("sources", b.Sources, len(b.Sources) > 0)
	if t := b.target; t != nil {
		put("server", t.Server, t.Server != "")
		put("role", t.Role, t.Role != "")
		put("command", t.Command, t.Command != "")
		put("exe", t.Exe, t.Exe != "")
	}
	if b.thread != nil {
		put("sinceSeconds", b.most, b.most > 0)
		r.Stacks = appendStack(r.Stacks, b.waits(doc), b.thread.Native, b.thread.Python)
		if loc, ok := innermost(b.thread.Native, b.thread.Python); ok {
			r.Locations = append(r.Locations, loc)
		}
	}
	if b.Place != nil {
		r.Locations = []sarifLocation{{PhysicalLocation: physical(b.Place)}}
	}
	// Code scanning wants a file for each result: the program is one, where no
	// line is known.
	if (len(r.Locations) == 0 || r.Locations[0].PhysicalLocation == nil) && b.target != nil && path.IsAbs(b.target.Exe) {
		at := &sarifPhysical{ArtifactLocation: sarifArtifact{fileURI(b.target.Exe)}}
		if len(r.Locations) == 0 {
			r.Locations = []sarifLocation{{}}
		}
		r.Locations[0].PhysicalLocation = at
	}
	for _, o := range owners(b.Lock) {
		what := "the lock's owner: thread " + ownerOf(o)
		switch {
		case b.Lock.Owner == nil:
			what = "may have held the lock: thread " + ownerOf(o)
		case o.Basis == finding.HeldThen:
			what = "held the lock at the fork: thread " + ownerOf(o)
		case o.Basis == finding.HoldsNow:
			what = "holds the same lock in the parent: thread " + ownerOf(o)
		}
		r.Stacks = appendStack(r.Stacks, what, o.Native, o.Python)
		if loc, ok := innermost(o.Native, o.Python); ok {
			id := len(r.RelatedLocations)
			loc.ID, loc.Message = &id, &sarifText{Text: what}
			r.RelatedLocations = append(r.RelatedLocations, loc)
		}
	}
	return r
}

// owners are the threads that a lock names, or those that come into question.
func owners(l *finding.Lock) []*finding.Owner {
	switch {
	case l == nil:
		return nil
	case l.Owner != nil:
		return []*finding.Owner{l.Owner}
	}
	var out []*finding.Owner
	for i := range l.Suspects {
		out = append(out, &l.Suspects[i])
	}
	return out
}

func appendStack(stacks []sarifStack, message string, native []finding.NativeFrame, python []finding.PythonFrame) []sarifStack {
	rows := merged(native, python)
	if len(rows) == 0 {
		return stacks
	}
	s := sarifStack{Message: sarifText{Text: message}}
	for _, r := range rows[:min(len(rows), maxFrames)] {
		s.Frames = append(s.Frames, sarifFrame{Location: r.location()})
	}
	return append(stacks, s)
}

// location says where a frame is: a Python frame by file and line, a native one
// by its text.
func (r row) location() sarifLocation {
	if !r.Python {
		return sarifLocation{LogicalLocations: []sarifLogical{{Name: r.Text, Kind: "function"}}}
	}
	loc := sarifLocation{LogicalLocations: []sarifLogical{{Name: r.Function, FullyQualifiedName: r.File + ":" + r.Function, Kind: "function"}}}
	if path.IsAbs(r.File) {
		loc.PhysicalLocation = &sarifPhysical{ArtifactLocation: sarifArtifact{fileURI(r.File)}}
		if r.Line > 0 {
			loc.PhysicalLocation.Region = &sarifRegion{StartLine: r.Line}
		}
	}
	return loc
}

// innermost is the place where a stack stands: its innermost Python frame in a
// file, else its innermost frame with a name.
func innermost(native []finding.NativeFrame, python []finding.PythonFrame) (sarifLocation, bool) {
	for _, f := range python {
		if loc := pythonRow(f).location(); loc.PhysicalLocation != nil {
			return loc, true
		}
	}
	rows := merged(native, python)
	for _, r := range rows {
		if r.named {
			return r.location(), true
		}
	}
	if len(rows) > 0 {
		return rows[0].location(), true
	}
	return sarifLocation{}, false
}

// physical is a place in a source. A path within the folder that was looked at
// stays relative: code hosts know their own root.
func physical(p *finding.Place) *sarifPhysical {
	uri := (&url.URL{Path: p.File}).String()
	if path.IsAbs(p.File) {
		uri = fileURI(p.File)
	}
	out := &sarifPhysical{ArtifactLocation: sarifArtifact{uri}}
	if p.Line > 0 {
		out.Region = &sarifRegion{p.Line, p.Column, p.EndLine, p.EndColumn}
	}
	return out
}

func fileURI(p string) string { return (&url.URL{Scheme: "file", Path: p}).String() }

var (
	counted = regexp.MustCompile(`0x[0-9a-f]+|\d+(?:\.\d+)*(?::\d+)?`)
	version = regexp.MustCompile(`[.:]`)
)

// timeless takes out of a sentence what differs from run to run: addresses and
// plain numbers, but not network addresses and versions.
func timeless(s string) string {
	return counted.ReplaceAllStringFunc(s, func(n string) string {
		if strings.HasPrefix(n, "0x") || !version.MatchString(n) {
			return "#"
		}
		return n
	})
}

// fingerprint is the same for the same defect in another run, on another
// machine, and after lines were moved: rule, server, lock and functions.
func fingerprint(b *block) string {
	h := sha256.New()
	put := func(s string) { h.Write([]byte(s + "\x00")) }
	put(string(b.Rule))
	if b.target != nil {
		put(b.target.Server)
	}
	if b.Lock == nil && b.thread == nil {
		put(timeless(b.Title))
	}
	if b.Place != nil {
		put(b.Place.File)
	}
	if b.Lock != nil {
		put(b.Lock.Kind)
		put(timeless(b.Lock.Where))
	}
	if b.thread != nil {
		for _, f := range b.thread.Python {
			put(f.Function + "@" + f.File)
		}
		if len(b.thread.Python) == 0 {
			for _, f := range b.thread.Native {
				put(f.Function + "@" + f.Object)
			}
		}
	}
	return hex.EncodeToString(h.Sum(nil)[:16])
}

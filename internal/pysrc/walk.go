package pysrc

// Walk calls visit for n and, where that returns true, for all that is within
// it, in the order of the source as far as the tree has it. Parts that are nil
// are left out. It goes as deep as the tree, which Parse bounds.
func Walk(n Node, visit func(Node) bool) {
	if !visit(n) {
		return
	}
	expr := func(all ...Expr) {
		for _, e := range all {
			if e != nil {
				Walk(e, visit)
			}
		}
	}
	body := func(all []Stmt) {
		for _, s := range all {
			Walk(s, visit)
		}
	}
	args := func(all []*Arg) {
		for _, a := range all {
			Walk(a, visit)
		}
	}
	params := func(all []*Param) {
		for _, q := range all {
			Walk(q, visit)
		}
	}
	types := func(all []*TypeParam) {
		for _, t := range all {
			Walk(t, visit)
		}
	}
	switch n := n.(type) {
	case *Attribute:
		expr(n.X)
	case *Call:
		expr(n.Func)
		args(n.Args)
	case *Arg:
		expr(n.Value)
	case *JoinedStr:
		for _, v := range n.Values {
			Walk(v, visit)
		}
	case *FormattedValue:
		expr(n.X)
		for _, v := range n.Spec {
			Walk(v, visit)
		}
	case *Subscript:
		expr(n.X, n.Index)
	case *Slice:
		expr(n.Low, n.High, n.Step)
	case *Sequence:
		expr(n.Elts...)
	case *Dict:
		for i := range n.Keys {
			expr(n.Keys[i], n.Values[i])
		}
	case *BinOp:
		expr(n.X, n.Y)
	case *UnaryOp:
		expr(n.X)
	case *BoolOp:
		expr(n.Values...)
	case *Compare:
		expr(n.Left)
		expr(n.Rest...)
	case *IfExp:
		expr(n.Body, n.Test, n.Else)
	case *Lambda:
		params(n.Params)
		expr(n.Body)
	case *Comp:
		expr(n.Elt, n.Value)
		for _, c := range n.For {
			expr(c.Target, c.Iter)
			expr(c.Ifs...)
		}
	case *Await:
		expr(n.X)
	case *Yield:
		expr(n.X)
	case *Starred:
		expr(n.X)
	case *NamedExpr:
		expr(n.Target, n.X)
	case *ExprStmt:
		expr(n.X)
	case *Assign:
		expr(n.Targets...)
		expr(n.Value)
	case *AugAssign:
		expr(n.Target, n.Value)
	case *AnnAssign:
		expr(n.Target, n.Annotation, n.Value)
	case *FunctionDef:
		expr(n.Decorators...)
		types(n.TypeParams)
		params(n.Params)
		expr(n.Returns)
		body(n.Body)
	case *Param:
		expr(n.Annotation, n.Default)
	case *TypeParam:
		expr(n.Bound, n.Default)
	case *ClassDef:
		expr(n.Decorators...)
		types(n.TypeParams)
		args(n.Args)
		body(n.Body)
	case *Return:
		expr(n.X)
	case *Delete:
		expr(n.Targets...)
	case *For:
		expr(n.Target, n.Iter)
		body(n.Body)
		body(n.Else)
	case *While:
		expr(n.Test)
		body(n.Body)
		body(n.Else)
	case *If:
		for _, b := range n.Branches {
			expr(b.Test)
			body(b.Body)
		}
		body(n.Else)
	case *With:
		for _, i := range n.Items {
			expr(i.Context, i.Target)
		}
		body(n.Body)
	case *Match:
		expr(n.Subject)
		for _, c := range n.Cases {
			Walk(c.Pattern, visit)
			expr(c.Guard)
			body(c.Body)
		}
	case *Pattern:
		expr(n.Value)
		expr(n.Keys...)
		for _, s := range n.Sub {
			Walk(s, visit)
		}
	case *Raise:
		expr(n.X, n.Cause)
	case *Try:
		body(n.Body)
		for _, h := range n.Handlers {
			Walk(h, visit)
		}
		body(n.Else)
		body(n.Finally)
	case *Handler:
		expr(n.Type)
		body(n.Body)
	case *Assert:
		expr(n.Test, n.Message)
	case *TypeAlias:
		expr(n.Name)
		types(n.TypeParams)
		expr(n.Value)
	case *Bad:
		body(n.Body)
	}
}

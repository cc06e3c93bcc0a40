def sweep_page(records, plan, space):
    return "<html></html>"

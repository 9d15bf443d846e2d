#include "app/options.h"
namespace espalier::app { int run_plugins(const std::vector<std::string>& a){ std::string m; std::int64_t n=3; std::vector<std::string> o; Options("plugins list","Lists.").positional("WHAT",m,"what to do").value("count",n,"how many").overrides(o,"set a key").parse(a); printf("%s %ld %zu\n",m.c_str(),n,o.size()); return 0; } }

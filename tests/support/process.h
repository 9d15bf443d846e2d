#pragma once

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "support/temporary_folder.h"

namespace espalier::testing {

struct ProcessResult {
  int exit_code = -1;  ///< 128 + signal when it was killed
  std::string out;
  std::string err;
};

/// Runs a program to its end, stdout and stderr kept apart.
inline ProcessResult run_process(const std::vector<std::string>& words) {
  const TemporaryFolder folder;
  std::vector<char*> arguments;
  arguments.reserve(words.size() + 1);
  for (const std::string& word : words) arguments.push_back(const_cast<char*>(word.c_str()));
  arguments.push_back(nullptr);
  const pid_t child = ::fork();
  if (child == 0) {
    const int out = ::open(folder.file("out").c_str(), O_CREAT | O_WRONLY, 0600);
    const int err = ::open(folder.file("err").c_str(), O_CREAT | O_WRONLY, 0600);
    ::dup2(out, STDOUT_FILENO);
    ::dup2(err, STDERR_FILENO);
    ::execv(arguments[0], arguments.data());
    ::_exit(127);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  const auto text = [&](const char* name) {
    std::ostringstream content;
    content << std::ifstream(folder.file(name)).rdbuf();
    return content.str();
  };
  const int code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  return {code, text("out"), text("err")};
}

/// Runs the program under test.
inline ProcessResult run_espalier(std::vector<std::string> words) {
  words.insert(words.begin(), environment("ESPALIER_BIN"));
  return run_process(words);
}

}  // namespace espalier::testing

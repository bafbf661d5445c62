# Read by llama.cpp's own CMakeLists.txt right after its project() (CMAKE_PROJECT_llama.cpp_INCLUDE): the server is
# linked with the very libraries that the installed bindings load, so that nothing of llama and ggml is built again.

set(CMAKE_INSTALL_DEFAULT_COMPONENT_NAME unwanted)

function(loosh_link_installed_llama)
    add_library(installed-llama SHARED IMPORTED GLOBAL)
    set_target_properties(installed-llama PROPERTIES
        IMPORTED_LOCATION ${GGML_LIB_DIR}/${CMAKE_SHARED_LIBRARY_PREFIX}llama${CMAKE_SHARED_LIBRARY_SUFFIX}
        INTERFACE_INCLUDE_DIRECTORIES ${CMAKE_CURRENT_SOURCE_DIR}/include
        INTERFACE_LINK_LIBRARIES ggml)
    foreach(target llama-common mtmd)
        foreach(property LINK_LIBRARIES INTERFACE_LINK_LIBRARIES)
            get_target_property(libraries ${target} ${property})
            list(TRANSFORM libraries REPLACE "^llama$" installed-llama)
            set_target_properties(${target} PROPERTIES ${property} "${libraries}")
        endforeach()
    endforeach()
    install(TARGETS llama-server RUNTIME COMPONENT server)
endfunction()

# Many small files that include much: compiled together they take a tenth of the time.
function(loosh_compile_together target folder)
    get_target_property(sources ${target} SOURCES)
    get_target_property(home ${target} SOURCE_DIR)
    list(FILTER sources EXCLUDE REGEX "^${folder}/")
    list(TRANSFORM sources PREPEND ${home}/)
    set_source_files_properties(${sources} TARGET_DIRECTORY ${target} PROPERTIES SKIP_UNITY_BUILD_INCLUSION ON)
    set_target_properties(${target} PROPERTIES UNITY_BUILD ON UNITY_BUILD_BATCH_SIZE 0)
endfunction()

cmake_language(DEFER CALL loosh_link_installed_llama)
cmake_language(DEFER CALL loosh_compile_together llama-common parsers)
cmake_language(DEFER CALL loosh_compile_together mtmd models)
